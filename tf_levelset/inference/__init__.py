"""Inference with trained models: predictions, their evaluation and their files.

`predictor` loads a model as a function from an image to class probabilities;
`augmented`, `tiling` and `crf` change how that function is applied; `evaluation`,
`prediction` and `submission` apply it to data sets, files and benchmark servers;
`panels` draws what it predicts.
"""
