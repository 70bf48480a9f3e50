"""Training of RDVFI-S: autoencoder, stage 1 (motion-guided decoding), stage 2 (one-step diffusion)."""
