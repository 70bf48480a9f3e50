"""Nodes for ComfyUI in its V3 schema: stateless classes that declare their inputs and outputs.

This module needs ComfyUI's own ``comfy_api``, so only ComfyUI can import it. The schema is documented at
https://docs.comfy.org/custom-nodes/v3_migration.
"""

import secrets
from fractions import Fraction
from pathlib import Path
from typing import Any

import folder_paths  # pyright: ignore[reportMissingImports]
import torch
from comfy import model_management  # pyright: ignore[reportMissingImports]
from comfy_api.latest import (  # pyright: ignore[reportMissingImports]
    ComfyAPISync,
    ComfyExtension,
    InputImpl,
    io,
    ui,
)
from comfy_execution.utils import get_executing_context  # pyright: ignore[reportMissingImports]

from rdvfi.integrations.comfyui.batches import interpolate_batch, preview_motion
from rdvfi.models import list_models
from rdvfi.serve.motion_layers import Layer
from rdvfi.video.job import interpolate_video
from rdvfi.video.model_loading import DEFAULT_MODEL, prepare_model
from rdvfi.video.scene_changes import OnSceneChange, scene_changes
from rdvfi.video.timing import exact_rate

_CATEGORY = "video/rdvfi"
_MODEL = io.Custom("RDVFI_MODEL")
_SCENES = [choice.value for choice in OnSceneChange]
_PRECISIONS = {"auto": None, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def _show_progress(done: int, total: int) -> None:
    """Show the progress in ComfyUI, and raise its exception if the user has interrupted the work."""
    if get_executing_context() is not None:
        ComfyAPISync().execution.set_progress(done, total)
    model_management.throw_exception_if_processing_interrupted()


def _timing_inputs() -> list[Any]:
    return [
        io.Float.Input("multiplier", default=2.0, min=1.0, max=64.0, step=0.5, tooltip="Times as many frames."),
        io.Combo.Input("on_scene_change", options=_SCENES, default="blend", tooltip="Frames between two scenes."),
        io.Int.Input("seed", default=0, min=0, max=2**63 - 1, tooltip="Seed of the noise."),
    ]


def _rate_input(name: str, meaning: str) -> Any:
    return io.Float.Input(name, default=0.0, min=0.0, max=1000.0, step=0.001, tooltip=meaning)


class LoadModel(io.ComfyNode):
    """Loads a model once, for all nodes that use it."""

    @classmethod
    def define_schema(cls) -> Any:
        """The inputs and outputs of the node."""
        return io.Schema(
            node_id="RDVFI_LoadModel",
            display_name="RDVFI: load model",
            category=_CATEGORY,
            inputs=[
                io.Combo.Input("model", options=list_models(), default=DEFAULT_MODEL),
                io.Combo.Input("precision", options=list(_PRECISIONS), default="auto"),
                io.String.Input("folder", default="", optional=True, tooltip="Instead: a saved model's folder."),
            ],
            outputs=[_MODEL.Output("rdvfi_model")],
        )

    @classmethod
    def execute(cls, model: str, precision: str, folder: str = "") -> Any:
        """The model on ComfyUI's device."""
        device = model_management.get_torch_device()
        return io.NodeOutput(
            prepare_model(folder.strip() or model, device, _PRECISIONS[precision], allow_untrained=False)
        )


class InterpolateImages(io.ComfyNode):
    """New frames between the images of a batch."""

    @classmethod
    def define_schema(cls) -> Any:
        """The inputs and outputs of the node."""
        return io.Schema(
            node_id="RDVFI_InterpolateImages",
            display_name="RDVFI: interpolate images",
            category=_CATEGORY,
            description="n images become (n - 1) times the multiplier + 1, or those of a target rate.",
            inputs=[
                _MODEL.Input("rdvfi_model"),
                io.Image.Input("images"),
                *_timing_inputs(),
                _rate_input("source_fps", "Rate of the images, for target_fps."),
                _rate_input("target_fps", "Instead of a multiplier; 0: unused."),
            ],
            outputs=[io.Image.Output("frames")],
        )

    @classmethod
    @torch.inference_mode()
    def execute(
        cls,
        rdvfi_model: Any,
        images: Any,
        multiplier: float,
        on_scene_change: str,
        seed: int,
        source_fps: float = 0.0,
        target_fps: float = 0.0,
    ) -> Any:
        """The images with new frames between."""
        factor = Fraction(multiplier).limit_denominator(1000)
        if target_fps:
            if not source_fps:
                raise ValueError("source_fps is 0; target_fps needs the rate of the images")
            factor = exact_rate(target_fps) / exact_rate(source_fps)
        scenes = scene_changes(on_scene_change, None)
        return io.NodeOutput(
            interpolate_batch(images, factor, rdvfi_model, seed=seed, scenes=scenes, progress=_show_progress)
        )


class InterpolateVideo(io.ComfyNode):
    """A video with more frames, from file to file: frames are not held in memory, and sound is kept."""

    @classmethod
    def define_schema(cls) -> Any:
        """The inputs and outputs of the node."""
        return io.Schema(
            node_id="RDVFI_InterpolateVideo",
            display_name="RDVFI: interpolate video",
            category=_CATEGORY,
            inputs=[
                _MODEL.Input("rdvfi_model"),
                io.Video.Input("video"),
                *_timing_inputs(),
                _rate_input("target_fps", "Instead of a multiplier; 0: unused."),
            ],
            outputs=[io.Video.Output("smooth_video")],
        )

    @classmethod
    def execute(
        cls, rdvfi_model: Any, video: Any, multiplier: float, on_scene_change: str, seed: int, target_fps: float = 0.0
    ) -> Any:
        """The video, written to ComfyUI's temporary folder."""
        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        name = secrets.token_hex(8)
        source, output = folder / f"rdvfi_{name}_source.mp4", folder / f"rdvfi_{name}.mp4"
        try:
            video.save_to(str(source))
            interpolate_video(
                source,
                output,
                model=rdvfi_model,
                multiplier=None if target_fps else Fraction(multiplier).limit_denominator(1000),
                target_fps=exact_rate(target_fps) if target_fps else None,
                seed=seed,
                on_scene_change=on_scene_change,
                progress=_show_progress,
            )
        finally:
            source.unlink(missing_ok=True)
        return io.NodeOutput(InputImpl.VideoFromFile(str(output)))


class PreviewMotion(io.ComfyNode):
    """Shows the motion between the first two images."""

    @classmethod
    def define_schema(cls) -> Any:
        """The inputs and outputs of the node."""
        layers = [layer.value for layer in Layer]
        return io.Schema(
            node_id="RDVFI_PreviewMotion",
            display_name="RDVFI: preview motion",
            category=_CATEGORY,
            inputs=[
                _MODEL.Input("rdvfi_model"),
                io.Image.Input("images"),
                io.Combo.Input("layer", options=layers, default="flow"),
                io.Boolean.Input("paths", default=True, tooltip="The paths of points."),
                io.Int.Input("steps", default=3, min=1, max=64, tooltip="Frames between the two."),
            ],
            outputs=[io.Image.Output("preview")],
            is_output_node=True,
        )

    @classmethod
    @torch.inference_mode()
    def execute(cls, rdvfi_model: Any, images: Any, layer: str, paths: bool, steps: int) -> Any:
        """Images of the motion, also shown below the node."""
        previews = preview_motion(images, rdvfi_model, Layer(layer), paths=paths, steps=steps)
        return io.NodeOutput(previews, ui=ui.PreviewImage(previews, cls=cls))


class RdvfiExtension(ComfyExtension):
    """All nodes."""

    async def get_node_list(self) -> list[Any]:
        """The nodes, for ComfyUI."""
        return [LoadModel, InterpolateImages, InterpolateVideo, PreviewMotion]
