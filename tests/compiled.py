"""Both halves of a model compile whole, without leaving the graph, and give what eager code gives.

Run by tests/test_compile.py, without the shape checks: those of dataclasses cannot be compiled.
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rdvfi
import toy
from rdvfi.interfaces import Motion
from rdvfi.interpolator import Interpolator
from rdvfi.testing import assert_close

# Times 0 and 0.5 are knots, 0.3 is none: a graph cannot choose by them.
TIMES = torch.tensor([0.0, 0.3, 0.5])


@pytest.fixture(autouse=True)
def _fresh_graphs() -> Iterator[None]:
    torch.compiler.reset()
    with toy.registered():
        yield
    torch.compiler.reset()


def _pair() -> tuple[Tensor, Tensor]:
    first = toy.textured(1, 40, 56)
    return first, first.roll(2, dims=-1)


def _small_rdvfi_s(*overrides: str) -> Interpolator:
    sizes = ("backbone.width=16", "backbone.encoder_width=8", "renderer.width=16")
    model = rdvfi.build("rdvfi_s", "coarse=dis", *sizes, *overrides)
    for parameter in model.parameters():  # so that no layer that starts at zero hides another
        parameter.data.add_(0.02 * torch.randn(parameter.shape))
    return model.eval().requires_grad_(False)


def _flows(motion: Motion) -> Tensor:
    return torch.stack(motion.trajectory.at(TIMES))


def _check_whole(model: Interpolator, backend: str) -> None:
    pair = _pair()
    noise = torch.randn(model.noise_shape(pair[0]))
    estimate = torch.compile(model.estimate, fullgraph=True, backend=backend)
    render = torch.compile(model.render, fullgraph=True, backend=backend)
    motion, expected = estimate(*pair, noise=noise), model.estimate(*pair, noise=noise)
    assert_close(motion.keyframes.latents, expected.keyframes.latents)
    assert_close(_flows(motion), _flows(expected))
    frames = render(*pair, motion, TIMES)
    assert_close(frames, model.render(*pair, expected, TIMES))
    assert_close(frames[:, 0], pair[0])


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@torch.no_grad()
def test_a_toy_compiles_whole(backend: str) -> None:
    _check_whole(toy.toy_model(tint=0.3), backend)


@torch.no_grad()
def test_fused_motion_and_followed_points_compile_whole() -> None:
    """The stages of RDVFI-S after its backbone, on the toy's few keyframes."""
    flow = rdvfi.flows.create("local", latent_channels=4, width=8)
    trajectory = rdvfi.trajectories.create(
        "iterative", flow=flow, basis=rdvfi.bases.create("cubic"), latent_channels=4, width=8
    )
    model = Interpolator(rdvfi.backbones.create("toy"), trajectory, rdvfi.renderers.create("warp"), motion_area=3072)
    _check_whole(model.eval(), "eager")


@pytest.mark.parametrize("optimized", [pytest.param(False, marks=pytest.mark.slow), True])
@torch.no_grad()
def test_the_keyframes_of_rdvfi_d_compile_whole(optimized: bool) -> None:
    generator = rdvfi.backbones.create("wan", size="toy").eval().requires_grad_(False)
    pair = toy.textured(1, 32, 48), toy.textured(1, 32, 48, seed=1)
    noise = torch.randn(generator.noise_shape(1, 32, 48))
    expected = generator(*pair, noise).latents
    if optimized:
        generator.optimize(size=(32, 48))  # pyright: ignore
    compiled = torch.compile(generator, fullgraph=True, backend="eager")
    assert_close(compiled(*pair, noise).latents, expected)


@pytest.mark.parametrize("optimized", [pytest.param(False, marks=pytest.mark.slow), True])
@torch.no_grad()
def test_the_keyframes_of_rdvfi_u_compile_whole(optimized: bool) -> None:
    generator = rdvfi.backbones.create("svd", size="toy").eval().requires_grad_(False)
    pair = toy.textured(1, 32, 48), toy.textured(1, 32, 48, seed=1)
    noise = torch.randn(generator.noise_shape(1, 32, 48))
    expected = generator(*pair, noise).latents
    if optimized:
        generator.optimize()  # pyright: ignore
    compiled = torch.compile(generator, fullgraph=True, backend="eager")
    assert_close(compiled(*pair, noise).latents, expected)


@pytest.mark.slow
@torch.no_grad()
def test_a_small_rdvfi_s_compiles_whole() -> None:
    _check_whole(_small_rdvfi_s(), "eager")


# Turns are complex arithmetic on the small latent grid, which inductor leaves to eager kernels.
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("knots", ["FIXED", "MOVED", "SOURCE"])
@torch.no_grad()
def test_every_kind_of_knots_compiles_whole(knots: str, backend: str) -> None:
    choices = ("trajectory=straight", f"trajectory.knots={knots}")
    _check_whole(_small_rdvfi_s(*choices), backend)


@torch.no_grad()
def test_a_compiled_model_is_used_saved_and_copied_as_before(tmp_path: Path) -> None:
    model, pair = toy.toy_model(tint=0.3), _pair()
    expected = model(*pair, TIMES, seed=1)
    assert model.compile(backend="eager") is model
    assert_close(model(*pair, TIMES, seed=1), expected)
    assert_close(model(*pair, TIMES.tolist(), seed=1), expected)
    with pytest.raises(ValueError, match="timesteps must be"):
        model(*pair, [1.5])
    with pytest.raises(ValueError, match="must hold values"):
        model(pair[0] + 1, pair[1], TIMES)
    model.save_pretrained(tmp_path)
    assert_close(Interpolator.from_pretrained(tmp_path)(*pair, TIMES, seed=1), expected)
    twin = copy.deepcopy(model)
    assert isinstance(twin.renderer, toy.ToyRenderer)
    twin.renderer.tint.zero_()
    assert_close(model(*pair, TIMES, seed=1), expected)
    assert not torch.equal(twin(*pair, TIMES, seed=1), expected)


def test_what_does_not_compile_whole_is_refused() -> None:
    class Printing(toy.ToyRenderer):
        def forward(self, *args) -> Tensor:  # pyright: ignore
            if bool(args[-1].sum() > 0):
                return super().forward(*args)
            return torch.zeros(())

    model = toy.toy_model()
    model.renderer = Printing(0.0).requires_grad_(False)
    with pytest.raises(Exception, match=r"[Dd]ata-dependent"):
        model.compile(backend="eager")(*_pair(), TIMES)
    assert model.compile(backend="eager", fullgraph=False)(*_pair(), TIMES).shape[1] == 3


def test_blocks_that_repeat_compile_once() -> None:
    model = rdvfi.build("rdvfi_d", "backbone.size=toy").eval().requires_grad_(False)
    blocks = model.generator.transformer.blocks  # pyright: ignore
    blocks.extend(copy.deepcopy(block) for block in [*blocks] * 4)
    for parameter in blocks.parameters():
        parameter.data.add_(0.02 * torch.randn(parameter.shape))
    expected, graphs = model.estimate(*_pair()), []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    made = model.compile(backend=backend).estimate(*_pair())  # pyright: ignore
    assert len(graphs) == 1
    assert_close(made.keyframes.latents, expected.keyframes.latents)
