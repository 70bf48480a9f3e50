"""Nodes for ComfyUI: `comfy_entrypoint` hands them over. The folder ``examples/comfyui`` goes into ``custom_nodes``."""

from typing import Any

__all__ = ["comfy_entrypoint"]


async def comfy_entrypoint() -> Any:
    """What ComfyUI asks a package of nodes for; it alone has what they are made of."""
    from rdvfi.integrations.comfyui.nodes import RdvfiExtension

    return RdvfiExtension()
