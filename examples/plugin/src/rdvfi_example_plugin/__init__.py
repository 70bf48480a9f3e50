"""A plug-in of rdvfi: importing it registers two backbones, two flow estimators and a basis."""

from rdvfi_example_plugin import haar, haar_diffusion, horn_schunck, ptlflow_models, quintic

__all__ = ["haar", "haar_diffusion", "horn_schunck", "ptlflow_models", "quintic"]
