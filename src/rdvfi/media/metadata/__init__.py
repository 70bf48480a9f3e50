"""Metadata of video beside its frames: orientation, HDR, stereoscopy, pixel aspect."""
