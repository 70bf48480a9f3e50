"""Image files: reading them, as single images or sources of frames, and writing PNG."""
