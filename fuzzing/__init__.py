"""What the package answers to input that may be bad: right, or an error that says why.

`python -m fuzzing` throws made-up cases at every public entrance, in child processes
that can crash, hang and run out of memory without taking the others along. A case is
made from a seed and its number alone, so that one can be run again by itself. The same
cases are the quick sample of the test suite.
"""
