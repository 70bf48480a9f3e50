"""RDVFI-U's backbone: Stable Video Diffusion."""
