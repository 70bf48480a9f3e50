"""Training and evaluation data: procedural scenes with exact motion, and clips."""
