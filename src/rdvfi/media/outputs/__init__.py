"""Outputs that appear under their final name only when they are complete."""
