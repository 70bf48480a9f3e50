"""ONNX: both stages of a model as files that run without torch.

`export_onnx` writes them, ``rdvfi export onnx`` is the command, and ``examples/onnx_interpolate.py`` a
program of NumPy and ONNX Runtime that runs them.
"""

from rdvfi.integrations.onnx.export import export_onnx

__all__ = ["export_onnx"]
