"""Section 5: the update rule and one training step."""
