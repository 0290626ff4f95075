"""Segmentation data sets and the one pipeline that serves them all."""
