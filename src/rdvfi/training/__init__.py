"""Training of RDVFI-S: autoencoder, motion-guided decoding, one-step diffusion."""
