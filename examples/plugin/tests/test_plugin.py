"""The plug-in as installed: found by name, keeps every contract, and the laws of its own."""

import csv
import importlib.util
import subprocess
import sys
from importlib.resources import files

import pytest
import torch
import torch.nn.functional as F

import rdvfi
from rdvfi.media.image_files.images import write_png
from rdvfi.registry import spec_of
from rdvfi.testing import check_basis, check_flow, check_generator
from rdvfi.training.model_parts import load_parts
from rdvfi.training.recipes import compose_stages
from rdvfi_example_plugin.haar import haar_matrix

torch.set_num_threads(1)


def picture(h: int, w: int, *, seed: int = 0) -> torch.Tensor:
    draw = torch.rand(1, 3, h // 8 + 1, w // 8 + 1, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(draw, (h, w), mode="bicubic", align_corners=False).clamp(0, 1)


def test_entries_are_found_without_importing_the_package() -> None:
    program = (
        "import sys, rdvfi\n"
        "assert 'rdvfi_example_plugin' not in sys.modules\n"
        "assert 'haar' in rdvfi.backbones and 'quintic' in rdvfi.bases\n"
        "assert {'horn-schunck', 'ptlflow'} <= set(rdvfi.flows)\n"
        "assert 'ptlflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


@torch.no_grad()
def test_every_contract_is_kept() -> None:
    check_basis(rdvfi.bases.create("quintic"))
    check_flow(rdvfi.flows.create("horn-schunck"))
    for between in (0, 3):
        coarse = rdvfi.flows.create("horn-schunck", warps=1)
        check_generator(rdvfi.backbones.create("haar", coarse=coarse, between=between))
    check_generator(rdvfi.backbones.create("haar-diffusion", coarse=rdvfi.flows.create("dis"), width=16))


def test_quintic_is_exact_for_constant_acceleration_and_smooth_at_the_knots() -> None:
    knots = torch.tensor([0.0, 0.2, 0.3, 0.7, 1.0], dtype=torch.float64)
    times = torch.linspace(0, 1, 37, dtype=torch.float64)
    basis = rdvfi.bases.create("quintic")
    got = basis.weights(knots, times) @ (3 * knots**2 - knots + 2)
    torch.testing.assert_close(got, 3 * times**2 - times + 2)
    # Acceleration from either side of a knot, by second differences.
    values, step = torch.sin(5 * knots), 1e-4
    for knot in knots[1:-1]:
        sides = []
        for side in (-1.0, 1.0):
            three = knot + side * step * torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
            a, b, c = basis.weights(knots, three) @ values
            sides.append((a - 2 * b + c) / step**2)
        assert abs(sides[0] - sides[1]) < 0.05 * abs(sides[0]) + 0.05


def test_the_haar_transform_is_orthonormal_and_loses_nothing() -> None:
    matrix = haar_matrix(8)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(8))
    backbone = rdvfi.backbones.create("haar", coarse=rdvfi.flows.create("dis"))
    image = picture(32, 48)
    latents = backbone.encode(image)
    torch.testing.assert_close(backbone.decode(latents), image, atol=1e-6, rtol=0)
    torch.testing.assert_close(latents.square().sum(), (4 * (image - 0.5)).square().sum())
    assert latents[:, ::64].square().sum() > 0.5 * latents.square().sum()  # the blocks' means


@pytest.mark.parametrize("shift", [(2, 0), (-5, 3)])
@torch.no_grad()
def test_horn_schunck_finds_shifts(shift: tuple[int, int]) -> None:
    large = picture(96, 112)
    dx, dy = shift
    source, target = large[..., 16:80, 16:96], large[..., 16 - dy : 80 - dy, 16 - dx : 96 - dx]
    flow = rdvfi.flows.create("horn-schunck")(source, target)
    error = (flow - torch.tensor(shift)[:, None, None]).norm(dim=1)[..., 12:-12, 12:-12]
    assert error.median() < 0.1 * (dx**2 + dy**2) ** 0.5


@pytest.mark.skipif(importlib.util.find_spec("ptlflow") is not None, reason="ptlflow is there")
def test_without_ptlflow_its_flow_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"pip install 'rdvfi-example-plugin\[ptlflow\]'"):
        rdvfi.flows.create("ptlflow")


@torch.no_grad()
def test_flows_of_other_packages_run_as_the_motion_between_keyframes() -> None:
    """torchvision's RAFT and ptlflow's, each where it is installed: every contract, and in a whole model."""
    raft = {"raft": {"size": "SMALL", "weights": None, "iterations": 3}, "ptlflow": {"model": "raft_small"}}
    installed = [name for name in raft if importlib.util.find_spec({"raft": "torchvision"}.get(name, name))]
    if not installed:
        pytest.skip("neither torchvision nor ptlflow is installed")
    for name in installed:
        values = raft[name] if name == "raft" else {**raft[name], "checkpoint": None}
        torch.manual_seed(0)
        check_flow(rdvfi.flows.create(name, **values))
        chosen = [f"flow={name}", *(f"flow.{key}={'null' if v is None else v}" for key, v in values.items())]
        slots = ("backbone=haar", "backbone.between=3", "coarse=horn-schunck", "trajectory=chained", "renderer=warp")
        model = rdvfi.build("rdvfi_s", *slots, *chosen).eval()
        assert model(picture(128, 160), picture(128, 160, seed=1), [0.5]).isfinite().all()


@pytest.mark.skipif(importlib.util.find_spec("ptlflow") is None, reason="ptlflow is not installed")
@torch.no_grad()
def test_ptlflow_gives_what_its_own_reader_makes_of_the_same_pictures() -> None:
    ours = rdvfi.flows.create("ptlflow", model="raft_small", checkpoint=None)
    from ptlflow.utils.io_adapter import IOAdapter

    first, last = ((255 * picture(136, 200, seed=seed)[0]).byte().permute(1, 2, 0).numpy() for seed in (1, 2))
    size = first.shape[:2]
    inputs = IOAdapter(output_stride=8, input_size=size).prepare_inputs([first[..., ::-1], last[..., ::-1]])
    theirs = ours.network(inputs)["flows"][:, 0]
    frames = [torch.from_numpy(frame).permute(2, 0, 1)[None] / 255 for frame in (first, last)]
    torch.testing.assert_close(ours(*frames), theirs, atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_a_recipe_takes_the_entries_and_the_model_is_saved_by_their_names(tmp_path) -> None:
    chosen = ("backbone=haar", "backbone.between=3", "coarse=horn-schunck", "basis=quintic")
    model = rdvfi.build("rdvfi_s", *chosen, "trajectory=straight", "renderer=warp").eval()
    assert model.untrained_parts() == []
    assert spec_of(model.generator)["config"]["coarse"]["name"] == "horn-schunck"
    img0, img1 = picture(64, 80), picture(64, 80, seed=1)
    frames = model(img0, img1, [0.0, 0.4, 1.0])
    torch.testing.assert_close(frames[:, 0], img0)
    model.save_pretrained(tmp_path / "model")
    again = rdvfi.create_model(tmp_path / "model")
    assert torch.equal(again(img0, img1, [0.0, 0.4, 1.0]), frames)


@pytest.fixture
def clips(tmp_path) -> str:
    """A folder with one clip, of a texture that turns."""
    texture, folder = picture(128, 192, seed=3), tmp_path / "clips" / "turn"
    folder.mkdir(parents=True)
    for i in range(24):
        angle = torch.tensor(0.02 * i)
        turn = torch.stack((torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle))).view(2, 2)
        grid = F.affine_grid(torch.cat((turn, torch.zeros(2, 1)), dim=1)[None], [1, 3, 128, 192], align_corners=False)
        frame = F.grid_sample(texture, grid, padding_mode="reflection", align_corners=False)
        write_png(folder / f"{i:03d}.png", (255 * frame[0, :, 32:96, 48:144]).byte().permute(1, 2, 0).numpy())
    return str(folder.parent)


def test_the_backbone_is_trained_by_the_command_and_interpolates(clips: str, tmp_path) -> None:
    recipe, out = files("rdvfi_example_plugin") / "recipe.yaml", tmp_path / "out"
    settings = [f"recipe={recipe}", f"data.folder={clips}", f"out={out}", "engine.device=cpu"]
    command = [sys.executable, "-m", "rdvfi", "train", *settings]
    subprocess.run(command, check=True, capture_output=True)
    with (out / "denoiser.csv").open() as file:
        losses = [float(row["theta"]) for row in csv.DictReader(file)]
    assert min(losses[-2:]) < 0.8 * losses[0]
    model = rdvfi.build("rdvfi_s", *compose_stages(str(recipe), settings[1:])[0].model.overrides).eval()
    untrained = model.estimate(picture(64, 96), picture(64, 96, seed=1)).keyframes.latents
    load_parts(model, out / "denoiser.safetensors")
    trained = model.estimate(picture(64, 96), picture(64, 96, seed=1)).keyframes.latents
    assert not torch.equal(trained[:, 1:-1], untrained[:, 1:-1])
    assert torch.equal(trained[:, [0, -1]], untrained[:, [0, -1]])
    assert model(picture(64, 96), picture(64, 96, seed=1), [0.5]).isfinite().all()


def test_the_command_line_knows_them() -> None:
    def said(*arguments: str) -> str:
        command = [sys.executable, "-m", "rdvfi", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    listed = said("models")
    assert all(f"  {name} " in listed for name in ("haar", "haar-diffusion", "horn-schunck", "quintic", "ptlflow"))
    told = said("info", "haar")
    assert "package: rdvfi_example_plugin" in told
    assert "licence of the code: Apache-2.0" in told
    assert "a latent at 448x256: 192, 32, 56" in told
    assert "not built: ImportError" in said("info", "ptlflow") or importlib.util.find_spec("ptlflow")
