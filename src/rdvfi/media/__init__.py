"""Files: reading and writing videos, images and audio; the only package that imports PyAV."""
