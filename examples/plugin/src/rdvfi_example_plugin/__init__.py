"""A plug-in of rdvfi: importing it registers a backbone, two flow estimators and a basis."""

from rdvfi_example_plugin import haar, horn_schunck, ptlflow_models, quintic

__all__ = ["haar", "horn_schunck", "ptlflow_models", "quintic"]
