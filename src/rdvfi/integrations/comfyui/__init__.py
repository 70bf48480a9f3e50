"""Nodes for ComfyUI, by `comfy_entrypoint`. Copy the folder ``examples/comfyui`` into ``custom_nodes``."""

from typing import Any

__all__ = ["comfy_entrypoint"]


async def comfy_entrypoint() -> Any:
    """The extension with all nodes, which ComfyUI requests; only ComfyUI has the modules that the nodes need."""
    from rdvfi.integrations.comfyui.nodes import RdvfiExtension

    return RdvfiExtension()
