"""What the package costs, in ratios of two things that are timed in turn.

`python -m benchmarks` runs the benchmarks and writes a JSON file for each. The function
`measure` of a benchmark returns `sizes`, what was measured; `cases`, the median,
quartiles and extremes of each timed case in seconds; and `targets`, the figures of
interest with their bounds, see `harness.target`. `python -m benchmarks.report` prints
the targets of several runs as a table.
"""
