"""Procedural scenes with exact motion."""
