"""The training loop, with its checkpoints and log."""
