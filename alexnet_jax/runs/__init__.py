"""A run on disk: its config, checkpoints, metrics, and how they are opened."""
