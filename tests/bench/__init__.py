"""`make bench`: speed, memory and values of this package beside peers, and how its cost grows.

Not a test: machines differ. With `tests` on the path, `python -m bench` runs the sides, `python -m bench.peers`
makes the peers' environments, and `python -m bench.growth` measures how cost grows with the size of the work.
"""
