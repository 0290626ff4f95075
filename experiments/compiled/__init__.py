"""Trials on an accelerator that TensorFlow is not installed beside.

`lower` writes a training step, its start and its samples' places; `execute` runs them
with NumPy, OpenCV, Pillow and JAX alone; `collect` judges what came out, as any run.
"""
