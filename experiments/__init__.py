"""Trainings that compare losses: sweeps as data, a runner, and result tables."""
