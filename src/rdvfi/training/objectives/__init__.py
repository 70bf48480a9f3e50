"""What one step of each stage computes."""
