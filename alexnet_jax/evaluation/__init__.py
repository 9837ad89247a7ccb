"""Sections 4.1 and 6: predictions, errors, features, nearest neighbors."""
