"""The nodes in ComfyUI itself: its schema, its loader of nodes, its images and videos.

``COMFYUI_HOME`` names a folder with ComfyUI's source, whose requirements are installed. Without it those are tested
that need no ComfyUI.
"""

import asyncio
import importlib.util
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import rdvfi
from rdvfi.integrations.comfyui.batches import interpolate_batch, preview_motion
from rdvfi.serve.motion_layers import Layer
from rdvfi.video.scene_changes import SceneChanges

HOME = os.environ.get("COMFYUI_HOME", "")
needs_comfyui = pytest.mark.skipif(not HOME, reason="COMFYUI_HOME names no ComfyUI")
FOLDER = Path(__file__).parent.parent / "examples/comfyui"


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    return rdvfi.create_model("rdvfi-s")


def _images(count: int) -> torch.Tensor:
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    frames = [0.5 + 0.4 * np.sin((x - 2 * n) / 5.0) * np.cos(y / 7.0) for n in range(count)]
    return torch.from_numpy(np.stack(frames).astype(np.float32))[..., None].repeat(1, 1, 1, 3)


def _quiet(done: int, total: int) -> None:
    """Whoever is told."""


def test_a_batch_is_that_of_the_library_at_any_factor(model: rdvfi.Interpolator) -> None:
    images = _images(3)
    small = images.permute(0, 3, 1, 2)
    said: list[tuple[int, int]] = []
    made = interpolate_batch(
        images, Fraction(2), model, seed=0, scenes=SceneChanges(), progress=lambda *x: said.append(x)
    )
    assert said == [(0, 2), (1, 2), (2, 2)]
    assert torch.equal(made[::2], images)
    expected = model(small[:1], small[1:2], [0.5])[0, 0].permute(1, 2, 0)
    torch.testing.assert_close(made[1], expected, atol=1e-5, rtol=0.0)
    made = interpolate_batch(images, Fraction(3, 2), model, seed=0, scenes=SceneChanges(), progress=_quiet)
    assert len(made) == 4  # at 0, 2/3, 4/3 and 2
    expected = model(small[1:2], small[2:3], [1 / 3])[0, 0].permute(1, 2, 0)
    torch.testing.assert_close(made[2], expected, atol=1e-4, rtol=0.0)
    assert torch.equal(made[3], images[2])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 48, 64, 3), "images holds a single frame"),
        (torch.zeros(2, 48, 64, 4), r"expected \(frames, height, width, 3\)"),
        (torch.zeros(2, 8, 64, 3), "images are 64x8 pixels"),
    ],
)
def test_unusable_batches_are_one_line(images: torch.Tensor, message: str, model: rdvfi.Interpolator) -> None:
    with pytest.raises(ValueError, match=message):
        preview_motion(images, model, Layer.FLOW, paths=True, steps=1)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The nodes, by their ids, loaded from the folder as ComfyUI loads it."""
    sys.path.insert(0, HOME)
    from comfy.cli_args import args  # pyright: ignore[reportMissingImports]

    args.cpu = True
    import folder_paths  # pyright: ignore[reportMissingImports]

    folder_paths.set_temp_directory(str(tmp_path_factory.mktemp("comfyui")))
    specification = importlib.util.spec_from_file_location(
        "rdvfi_nodes", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)

    async def found() -> list[Any]:
        extension = await module.comfy_entrypoint()
        await extension.on_load()
        return await extension.get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(found())}


@needs_comfyui
@pytest.mark.filterwarnings("ignore")
def test_the_schema_is_one_that_comfyui_accepts(nodes: dict[str, Any]) -> None:
    assert set(nodes) == {f"RDVFI_{n}" for n in ("LoadModel", "InterpolateImages", "InterpolateVideo", "PreviewMotion")}
    for node in nodes.values():
        node.GET_SCHEMA().validate()
        assert node.GET_NODE_INFO_V1()["category"] == "video/rdvfi"
        assert not {name for name in node.INPUT_TYPES()["required"]} - set(node.execute.__annotations__)


@needs_comfyui
@pytest.mark.filterwarnings("ignore")
def test_images_and_video_go_through_comfyuis_own_classes(nodes: dict[str, Any], tmp_path: Path) -> None:
    from comfy_api.latest import InputImpl, Types  # pyright: ignore[reportMissingImports]

    model = nodes["RDVFI_LoadModel"].execute("rdvfi-s", "auto").result[0]
    images = _images(4)
    frames = nodes["RDVFI_InterpolateImages"].execute(model, images, 2.0, "blend", 0).result[0]
    assert frames.shape == (7, 48, 64, 3)
    assert torch.equal(frames[::2], images)
    frames = nodes["RDVFI_InterpolateImages"].execute(model, images, 2.0, "blend", 0, 24.0, 60.0).result[0]
    assert len(frames) == 8  # 0, 0.4, ..., 2.8
    wave = torch.sin(torch.arange(8000) / 9.0)[None, None]
    parts = Types.VideoComponents(
        images=images, frame_rate=Fraction(10), audio={"waveform": wave, "sample_rate": 16000}
    )
    video = InputImpl.VideoFromComponents(parts)
    made = nodes["RDVFI_InterpolateVideo"].execute(model, video, 3.0, "blend", 0).result[0]
    found = made.get_components()
    assert len(found.images) == 10
    assert found.audio is not None
    with av.open(made.get_stream_source()) as container:
        assert container.streams.audio[0].rate == 16000
    shown = nodes["RDVFI_PreviewMotion"].execute(model, images, "flow", True, 2)
    assert shown.result[0].shape == (4, 48, 64, 3)
    assert len(shown.ui.as_dict()["images"]) == 4
    with pytest.raises(ValueError, match="source_fps is 0"):
        nodes["RDVFI_InterpolateImages"].execute(model, images, 2.0, "blend", 0, 0.0, 60.0)
