"""Image files as sources of frames, and writing PNG."""
