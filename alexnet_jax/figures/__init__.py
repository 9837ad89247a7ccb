"""Figures 1, 3 and 4, learning curves, and the report of a run."""
