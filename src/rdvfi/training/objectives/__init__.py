"""Objectives: what one training step of each stage computes."""
