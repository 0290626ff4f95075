"""Trials by fire: what the package does when processes, disks and inputs fail."""
