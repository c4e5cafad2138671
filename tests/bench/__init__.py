"""`make bench`: speed, memory and values of this package beside peers, and how its cost grows.

Not a test: machines differ. With `tests` on the path, `python -m bench` runs the sides, and
`python -m bench.peers` makes the environments of the peers.
"""
