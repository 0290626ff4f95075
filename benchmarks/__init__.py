"""What the package costs beside what its users would otherwise pick.

`python -m benchmarks` runs every benchmark, each in a process of its own, and
`python -m benchmarks.report` writes docs/performance.md from what they measured.
"""
