"""Benches: what cityid does per second beside programs that others wrote, measured in one run on one machine.

`make bench` runs all, `make bench NAME=prefix` those whose names begin so; docs/benchmarks.md says what each row means.
"""
