"""Benchmarks: each file is a command that prints a table, most of them in comparison with other software."""
