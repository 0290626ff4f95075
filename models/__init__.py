"""Segmentation networks as functional Keras models."""
