"""The command `tf-levelset`: `main` parses the command line, and each other file
holds one command, with `add_arguments(parser)` and `run(options)`.

TensorFlow, Keras and OpenCV are imported only when a command runs, so that help and
errors in the command line appear at once.
"""
