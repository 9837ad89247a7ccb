"""What launch.py calls: one file for each --mode."""
