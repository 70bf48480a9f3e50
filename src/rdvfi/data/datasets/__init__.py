"""Sources of real frames: packages, clips and published datasets."""
