"""ONNX: substitutes equal what they stand for, and exported models equal torch, run without it."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import rdvfi
from rdvfi.content.cpu_shortcuts import fixed_shapes
from rdvfi.integrations.onnx import export, export_onnx
from rdvfi.integrations.onnx.complex_pairs import ComplexPair
from rdvfi.integrations.onnx.motion_tensors import named_tensors, replace_tensors
from rdvfi.integrations.onnx.substitutes import NotExportable, Substitutes
from rdvfi.motion.basis import cubic
from rdvfi.ops import backward_warp, render
from rdvfi.ops.splatting import splat_sum

ROOT = Path(__file__).parents[1]
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnxscript", "onnxruntime")),
    reason="needs ONNX, onnxscript and ONNX Runtime (extra 'onnx')",
)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _with_gaps(x: Tensor) -> Tensor:
    return torch.where(x > 0.6, torch.nan, x)


UNSUPPORTED_OPERATORS = (
    "rdvfi::",
    "aten::_fft",
    "aten::nanmedian",
    "aten::searchsorted",
    "aten::cumprod",
    "aten::_adaptive",
)


class _CalledOperators(TorchDispatchMode):
    """The names of all operators that are called."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


KNOTS = torch.linspace(0.0, 1.0, 9)
_RDVFI = torch.ops.rdvfi
_ENDS, _MASK = (_random(1, 3, 40, 60, seed=2), _random(1, 3, 40, 60, seed=3)), _random(1, 1, 10, 15, seed=5)


def _paths(times: Tensor) -> tuple[Tensor, ...]:
    """Arguments of `flows_at` with five knots."""
    shapes = ((1, 5, 4, 12, 20), (1, 4, 2, 12, 20), (1, 4, 2, 12, 20), (1, 4, 1, 12, 20), (1, 4, 1, 12, 20))
    tensors = (4.0 * _random(*shape, seed=seed) for seed, shape in enumerate(shapes))
    knots = torch.linspace(0.0, 1.0, 5)
    return (*tensors, knots, times, cubic().weights(knots, times))


def _maps(gain: Tensor) -> tuple[Tensor, ...]:
    """Arguments of `adapted_maps` for two times."""
    flows = (4.0 * _random(1, 2, 2, 20, 30, seed=seed) for seed in (2, 3))
    ends = (_random(1, 3, 20, 30, seed=seed) for seed in (0, 1))
    mask, residual, times = _random(1, 2, 1, 20, 30), _random(1, 2, 3, 20, 30) - 0.5, torch.tensor([0.3, 0.6])
    return (*ends, gain, *flows, mask, residual, times, torch.ones(1))


CALLS: dict[str, Callable[[], Any]] = {
    "searchsorted right": lambda: torch.searchsorted(KNOTS, torch.tensor([0.0, 0.125, 0.3, 1.0]), right=True),
    "searchsorted": lambda: torch.searchsorted(KNOTS, torch.tensor([0.0, 0.125, 0.3, 1.0])),
    "cumprod": lambda: (_random(4, 9) > 0.3).long().cumprod(1),
    "nanmedian": lambda: _with_gaps(_random(5, 6, 11)).nanmedian(-1).values,
    "nanmedian of nothing": lambda: torch.full((2, 5), torch.nan).nanmedian(-1).values.nan_to_num(7.0),
    "adaptive_avg_pool2d": lambda: F.adaptive_avg_pool2d(_random(2, 3, 13, 17), (4, 5)),
    "rfft2": lambda: torch.fft.rfft2(_random(2, 1, 6, 10), s=(12, 20)).abs(),
    "irfft2": lambda: torch.fft.irfft2(torch.fft.rfft2(_random(2, 1, 6, 9), s=(13, 19)), s=(13, 19)),
    "irfft2 even": lambda: torch.fft.irfft2(
        torch.fft.rfft2(_random(2, 1, 8, 8), s=(16, 16)).conj_physical(), s=(16, 16)
    ),
    "backward_warp": lambda: backward_warp(_random(2, 3, 20, 31), 40.0 * _random(2, 2, 20, 31, seed=1) - 20.0),
    "backward_warp from outside": lambda: backward_warp(_random(1, 2, 9, 14), 40.0 * _random(1, 2, 9, 14) + 20.0),
    "splat_sum": lambda: splat_sum(_random(1, 2, 9, 14), 6.0 * _random(1, 2, 9, 14), _random(1, 1, 9, 14))[0],
    "fill_bars": lambda: _RDVFI.fill_bars.default(_random(1, 3, 20, 30), torch.tensor([[3, 16, 0, 30]])),
    "fill_bars without bars": lambda: _RDVFI.fill_bars.default(_random(1, 3, 20, 30), torch.tensor([[0, 20, 0, 30]])),
    "lifted_overlay": lambda: torch.cat(
        _RDVFI.lifted_overlay.default(
            *_ENDS, 1.0 * (_MASK > 0.6), 1.0 * (_MASK > 0.5), _random(1, 2, 3, 10, 15, seed=4)
        ),
        dim=1,
    ),
    "flows_at": lambda: _RDVFI.flows_at.default(*_paths(torch.tensor([0.2, 0.5, 0.9]))),
    "flows_at knots": lambda: _RDVFI.flows_at.default(*_paths(torch.tensor([0.25, 0.5]))),
    "pull_push": lambda: _RDVFI.pull_push.default(_random(1, 4, 20, 30), 1.0 * (_random(1, 1, 20, 30, seed=1) > 0.7)),
    "pull_push of valid pixels": lambda: _RDVFI.pull_push.default(_random(1, 4, 20, 30), torch.ones(1, 1, 20, 30)),
    "adapted_maps": lambda: _RDVFI.adapted_maps.default(*_maps(0.2 * _random(1, 1, 20, 30) - 0.1)),
    "adapted_maps of constant light": lambda: _RDVFI.adapted_maps.default(*_maps(torch.zeros(1, 1, 20, 30))),
    "avg_pool2d": lambda: F.avg_pool2d(_random(1, 3, 20, 30), 5, 1, 2, count_include_pad=False),
    "avg_pool2d halved": lambda: F.avg_pool2d(_random(1, 3, 20, 30), 2),
    "pixel_unshuffle": lambda: F.pixel_unshuffle(_random(2, 3, 12, 18), 3),
    "composited": lambda: _RDVFI.composited.default(
        _random(1, 2, 3, 40, 60),
        *_ENDS,
        torch.tensor([0.2, 0.7]),
        [*_ENDS, _random(1, 1, 40, 60)],
        [torch.tensor([[4, 33]]), torch.tensor([[0, 60]])],
    ),
    "render": lambda: render(
        _random(1, 3, 40, 60),
        _random(1, 3, 40, 60, seed=1),
        9.0 * _random(1, 5, 2, 10, 15) - 4.0,
        9.0 * _random(1, 5, 2, 10, 15, seed=2) - 4.0,
        _random(1, 5, 1, 10, 15),
        _random(1, 5, 3, 10, 15) - 0.5,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_substitute_equals_what_it_stands_for(name: str) -> None:
    expected = CALLS[name]()
    with _CalledOperators() as called, Substitutes():
        substitute = CALLS[name]()
    assert not [op for op in called.names if op.startswith(UNSUPPORTED_OPERATORS)], (
        "what ONNX does not know is not called"
    )
    torch.testing.assert_close(substitute, expected, atol=1e-4, rtol=1e-4, equal_nan=True)


class _Complex(nn.Module):
    """Everything that rdvfi does with complex numbers, and a little more."""

    def forward(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        z, w = torch.complex(x, y), torch.view_as_complex(torch.stack((y, x), dim=-1))
        power = torch.exp(0.3 * torch.log(1.0 + z))
        safe = torch.where(z.abs() < 0.5, torch.ones_like(z), z)
        ratio = (power - 1.0) / safe * w.conj_physical()
        turned = torch.polar(z.abs().clamp(0.25, 4.0), w.angle())
        chosen = torch.cat((ratio, turned, 2.0 - z), dim=0).gather(0, index)
        weighted = (x[:, None] * turned[:, None]).sum(1) / y.sum(-1, keepdim=True) + w.unsqueeze(0).squeeze(0) * 0.5
        shifted = w - z[:1] * complex(2.0, -3.0)
        return (
            chosen.real,
            chosen.imag,
            weighted.imag,
            shifted.real,
            z.abs().square(),
            (1.0 / safe).imag,
            (-w * z).real,
        )


def test_complex_numbers_are_pairs_of_real_ones_while_a_model_is_traced() -> None:
    class Traced(nn.Module):
        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            with Substitutes():
                return _Complex()(*inputs)

    inputs = (2.0 * _random(4, 6) - 1.0, _random(4, 6, seed=1) + 0.1, torch.tensor([[0, 3, 5, 7, 9, 11]]))
    program = torch.export.export(Traced(), inputs, strict=False)
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert not any(isinstance(value, Tensor) and value.is_complex() for value in values)
    for made, expected in zip(program.module()(*inputs), _Complex()(*inputs), strict=True):
        torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


def test_a_function_of_complex_numbers_without_a_rule_is_named() -> None:
    pair = ComplexPair(torch.rand(3), torch.rand(3))
    assert pair.shape == (3,)
    assert pair.dtype == torch.complex64
    with pytest.raises(NotImplementedError, match=r"complex numbers in sin have no rule for ONNX"):
        pair.sin()


def test_a_motion_is_taken_apart_and_put_together() -> None:
    model = rdvfi.create_model("rdvfi-s")
    motion = model.estimate(_random(1, 3, 32, 48), _random(1, 3, 32, 48, seed=1))
    tensors = named_tensors(motion)
    assert "keyframes.latents" in tensors
    again = named_tensors(replace_tensors(motion, lambda name, _: tensors[name].flip(0)))
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], x.flip(0)) and again[name] is not x for name, x in tensors.items())


def test_what_onnx_cannot_hold_is_refused_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    classical = rdvfi.build("rdvfi_s", "coarse=dis", "trajectory=straight", "renderer=warp").eval()
    with pytest.raises(NotExportable, match=r"cannot be exported: rdvfi\.dis_flow\.default works outside of torch"):
        export_onnx(classical, tmp_path / "dis")
    large = rdvfi.create_model("rdvfi-s")
    large.heavy = nn.Parameter(torch.empty(2**29 + 1, device="meta"))
    with pytest.raises(NotExportable, match=r"its weights take 2.0 GiB, and a file of ONNX holds 2 GiB") as told:
        export_onnx(large, tmp_path / "large")
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match=r"size is \(8, 720\); expected height and width, from 16"):
        export_onnx(rdvfi.create_model("rdvfi-s"), tmp_path / "small", size=(8, 720))
    (tmp_path / "render.onnx").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"render\.onnx exists already"):
        export_onnx(rdvfi.create_model("rdvfi-s"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["render.onnx"], "nothing is written"


# Whole models


SMALL_MODEL = ("backbone=ends", "coarse=matching", "trajectory=straight", "renderer=warp")


def _export_by_command(folder: Path, *options: str) -> Path:
    """By the command, in a process of its own: checks of shapes, which tests switch on, know no symbolic sizes."""
    command = [sys.executable, "-m", "rdvfi_cli.main", "export", "onnx", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that ships."""
    return _export_by_command(tmp_path_factory.mktemp("onnx"), "--size", "320x180")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[rdvfi.Interpolator, Path]:
    """A model without networks but the matching's, and its files."""
    folder = tmp_path_factory.mktemp("small")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = rdvfi.build("rdvfi_s", *SMALL_MODEL).eval().requires_grad_(False)
    model.save_pretrained(folder / "model")
    return model, _export_by_command(folder / "onnx", "--size", "160x90", "--model", str(folder / "model"))


def _pictures(height: int, width: int) -> tuple[Tensor, Tensor]:
    """A smooth texture, and the same moved by a thirtieth of the width."""
    wide = F.interpolate(_random(1, 3, 12, 24), (height, width + width // 30), mode="bicubic").clamp(0.0, 1.0)
    return wide[..., :width].contiguous(), wide[..., -width:].contiguous()


def _largest_difference(
    model: rdvfi.Interpolator, files: Path, size: tuple[int, int], times: list[float], bar: int
) -> float:
    """Largest difference of ONNX Runtime's frames from torch's, of a pair of this height and width with bars."""
    import onnxruntime

    first, last = _pictures(*size)
    for picture in (first, last):
        picture[:, :, :bar] = picture[:, :, size[0] - bar :] = 0.0
    images = {"img0": first.numpy(), "img1": last.numpy()}
    estimate, draw = (onnxruntime.InferenceSession(str(files / name)) for name in (export.ESTIMATE, export.RENDER))
    motion = dict(zip([each.name for each in estimate.get_outputs()], estimate.run(None, images), strict=True))
    frames = np.asarray(draw.run(None, {**images, **motion, "timesteps": np.array(times, np.float32)})[0])
    meta = estimate.get_modelmeta().custom_metadata_map
    fixed = export._FixedMotionSize.from_model(model, (int(meta["motion_height"]), int(meta["motion_width"])))
    with torch.inference_mode(), fixed_shapes():
        expected = fixed(first, last, times)
    assert frames.shape == (1, len(times), 3, *size)
    assert frames[..., :bar, :].max(initial=0.0) == 0.0
    assert (expected - 0.5 * (first + last)).abs().mean() > 0.005, "a cross-fade would not do"
    return float((torch.from_numpy(frames) - expected).abs().max())


@needs_onnx
def test_a_small_model_runs_in_onnx_runtime_as_in_torch(small: tuple[rdvfi.Interpolator, Path]) -> None:
    assert _largest_difference(*small, (128, 160), [0.5], 0) < 1e-3  # the least height, and the width of the motion
    assert _largest_difference(*small, (180, 320), [0.125, 0.3, 0.77], 0) < 1e-3
    assert _largest_difference(*small, (270, 300), [0.0, 0.4, 1.0], 30) < 1e-3


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "times", "bar"),
    [((200, 330), [0.5], 0), ((270, 480), [0.125, 0.3, 0.5, 0.77], 0), ((360, 500), [0.0, 0.4, 1.0], 30)],
)
def test_the_model_that_ships_runs_in_onnx_runtime_as_in_torch(
    exported: Path, size: tuple[int, int], times: list[float], bar: int
) -> None:
    assert _largest_difference(rdvfi.create_model("rdvfi-s"), exported, size, times, bar) < 1e-3


@needs_onnx
@pytest.mark.slow
def test_the_example_runs_without_torch(exported: Path, tmp_path: Path) -> None:
    first, last = _pictures(200, 360)
    for name, picture in (("first", first), ("last", last)):
        Image.fromarray((picture[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(tmp_path / f"{name}.png")
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    (tmp_path / "rdvfi.py").write_text("raise ImportError('no rdvfi here')")
    program = ROOT / "examples/onnx_interpolate.py"
    assert len(program.read_text().splitlines()) <= 40
    command = [sys.executable, str(program), str(exported), "first.png", "last.png", "out", "--count", "2"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = [np.asarray(Image.open(tmp_path / "out" / f"{i:03d}.png")) for i in (1, 2)]
    assert made[0].shape == (200, 360, 3)
    assert np.abs(made[0].astype(int) - made[1]).mean() > 0.5, "the picture moves"
