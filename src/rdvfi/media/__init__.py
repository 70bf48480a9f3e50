"""Files: reading and writing videos, images and sound; the only package that imports PyAV."""
