"""RDVFI for ComfyUI: put this folder into ``custom_nodes``, with rdvfi installed in ComfyUI's Python."""

from rdvfi.integrations.comfyui import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
