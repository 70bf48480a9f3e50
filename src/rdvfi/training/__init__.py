"""Training of every model: objectives, losses, the engine that runs them, and recipes."""
