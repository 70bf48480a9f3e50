"""RDVFI-D's backbone: Wan2.1-Fun-InP."""
