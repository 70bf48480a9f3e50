"""RDVFI-S's backbone: a compact latent diffusion model trained from scratch."""
