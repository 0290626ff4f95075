"""Experiments: sweeps as plain data, their runs, and what follows from them."""
