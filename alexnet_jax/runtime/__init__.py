"""Errors, files, devices, processes: what every room above stands on."""
