"""Video files: probing, decoding, and encoding."""
