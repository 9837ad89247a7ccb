"""Errors, files, devices and processes, used by every other package."""
