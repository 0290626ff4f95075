"""Trained models in formats for serving.

`saved_model` writes numbered SavedModels for TensorFlow Serving, `warmup` their warm-up
requests and `onnx` ONNX files; `versions` finds and loads what was exported.
"""
