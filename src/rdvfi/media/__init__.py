"""Files: the one way in which videos, images and sound are read and written."""
