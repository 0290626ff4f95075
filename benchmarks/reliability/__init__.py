"""Trials: what happens when processes, disks, inputs and versions are bad or old."""
