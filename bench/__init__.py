"""Benchmarks: every figure beside its peer, in the same run, in rounds that take turns. `python -m bench --help`."""
