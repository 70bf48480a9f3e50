"""Trajectory models, and what they interpolate in time."""
