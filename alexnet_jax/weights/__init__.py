"""Trained networks of other libraries, read and written."""
