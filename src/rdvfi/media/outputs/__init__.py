"""Outputs that appear under their final name only once they are complete."""
