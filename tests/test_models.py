"""Saving and loading: bit-equal, refused when damaged, never half-written."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import rdvfi
import toy
from rdvfi import models
from rdvfi.interpolator import Interpolator
from rdvfi.saved_models import model_names
from rdvfi.saved_models.checkpoint import write_config
from rdvfi.saved_models.model_names import bundled_files
from rdvfi.saved_models.weight_files import load_weights, write_weights


@pytest.fixture(autouse=True)
def _register_toys():
    with toy.registered():
        yield


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = toy.toy_model(tint=0.25)
    model.mark_trained("backbone", "trajectory")
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_save_then_load_is_bit_equal(saved: Path) -> None:
    torch.manual_seed(0)
    model = toy.toy_model(tint=0.25)
    model.save_pretrained(saved)
    again = Interpolator.from_pretrained(saved)
    first, last = toy.textured(1, 40, 56), toy.textured(1, 40, 56, seed=1)
    assert torch.equal(model(first, last, [0.3]), again(first, last, [0.3]))
    assert again.motion_area == model.motion_area
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_a_folder_holds_names_numbers_and_a_card(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    table = json.loads((saved / "config.json").read_text())
    assert table["format"] == "rdvfi"
    assert table["backbone"]["name"] == "toy"
    assert table["backbone"]["config"]["coarse"]["name"] == "toy"
    assert table["trained"] == ["backbone", "trajectory"]
    assert "toy." not in (saved / "config.json").read_text()  # names, never code paths
    assert (saved / "config.json").stat().st_mode & 0o777 == (saved / "model.safetensors").stat().st_mode & 0o777


def test_trained_parts_are_remembered(saved: Path) -> None:
    assert rdvfi.create_model(saved).untrained_parts() == ["renderer"]
    assert rdvfi.create_model(str(saved)).untrained_parts() == ["renderer"]


def test_loading_leaves_the_random_state_alone(saved: Path) -> None:
    before = torch.random.get_rng_state()
    Interpolator.from_pretrained(saved)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_model_built_by_hand_is_not_half_saved(tmp_path: Path) -> None:
    model = toy.toy_model()
    model.renderer = toy.ToyRenderer(0.0)
    with pytest.raises(TypeError, match="ToyRenderer was built by hand"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        toy.toy_model().save_pretrained(tmp_path / "file")


def test_a_failed_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (saved / "model.safetensors").read_bytes()

    def full(tensors, path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        toy.toy_model().save_pretrained(saved)
    assert (saved / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def _edit(path: Path, **changes) -> None:
    table = json.loads(path.read_text())
    table.update(changes)
    path.write_text(json.dumps(table))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "not the configuration of an rdvfi model"),
        ({"format_version": 99}, "format version 99; this version of rdvfi reads 1"),
        ({"format_version": True}, "format version True; this version of rdvfi reads 1"),
        ({"extra": 1}, "unknown keys extra"),
        ({"motion_area": "big"}, "motion_area must be a number of pixels; got 'big'"),
        ({"trained": ["all"]}, "trained must be a list of parts"),
        ({"trained": ["motion_area"]}, "trained must be a list of parts"),
        ({"renderer": {"name": "os.system", "config": {}}}, "no renderer named 'os.system'"),
        ({"renderer": {"name": "toi", "config": {}}}, "did you mean 'toy'"),
        ({"renderer": {"name": "toy", "config": {"tin": 1}}}, "no parameter 'tin'"),
        ({"renderer": {"name": "toy", "config": {"tint": "a"}}}, "tint must be float; got 'a'"),
        ({"renderer": {"_target_": "os.system"}}, "described by a name and a config"),
    ],
)
def test_a_wrong_configuration_is_refused(saved: Path, changes, message: str) -> None:
    _edit(saved / "config.json", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        Interpolator.from_pretrained(saved)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00\xff", '{"format": "rdvfi"}'])
def test_a_damaged_configuration_is_refused(saved: Path, text: str) -> None:
    (saved / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json"):
        Interpolator.from_pretrained(saved)


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_truncated_weights_are_refused(saved: Path, keep: int) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or not a safetensors"):
        Interpolator.from_pretrained(saved)


def test_weights_of_another_model_are_refused(saved: Path) -> None:
    path = saved / "model.safetensors"
    state = safetensors.torch.load_file(path)
    tint = "renderer.tint"
    write_weights(path, {**state, tint: torch.zeros(4)})
    with pytest.raises(ValueError, match=r"another model: renderer.tint has shape \(4,\).*\(3,\)"):
        Interpolator.from_pretrained(saved)
    bias = "generator.to_image.bias"
    write_weights(path, {key: value for key, value in state.items() if key != bias})
    with pytest.raises(ValueError, match=r"another model: missing tensors generator\.to_image\.b"):
        Interpolator.from_pretrained(saved)
    write_weights(path, {**state, "stray": torch.zeros(1)})
    with pytest.raises(ValueError, match="another model: unknown tensors stray"):
        Interpolator.from_pretrained(saved)
    write_weights(path, {**state, tint: torch.full((3,), float("nan"))})
    with pytest.raises(ValueError, match=r"damaged: renderer.tint has .* not finite"):
        Interpolator.from_pretrained(saved)


def test_refused_weights_leave_the_model_as_it_was(saved: Path) -> None:
    model = toy.toy_model(tint=0.75)
    state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    state["renderer.tint"] = torch.zeros(4)
    write_weights(saved / "model.safetensors", state)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="another model"):
        load_weights(model, saved / "model.safetensors")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_parts_are_saved_and_loaded_apart(tmp_path: Path) -> None:
    torch.manual_seed(4)
    one = toy.toy_model(tint=0.25)
    one.mark_trained("backbone", "trajectory", "renderer")
    one.save_pretrained(tmp_path / "renderer", parts=["renderer"])
    held = safetensors.torch.load_file(tmp_path / "renderer" / "model.safetensors")
    assert set(held) == {"renderer.tint"}
    with pytest.raises(ValueError, match=r"no weights of backbone, trajectory; Interpolator.load_part"):
        rdvfi.create_model(tmp_path / "renderer")
    two = toy.toy_model(tint=0.25)
    backbone = {key: tensor.clone() for key, tensor in two.generator.state_dict().items()}
    two.mark_trained("backbone")
    two.renderer.tint.zero_()  # pyright: ignore
    two.load_part("renderer", tmp_path / "renderer")
    assert torch.equal(two.renderer.tint, one.renderer.tint)  # pyright: ignore
    assert all(torch.equal(backbone[k], v) for k, v in two.generator.state_dict().items())
    assert two.untrained_parts() == ["trajectory"]
    assert two.parts_trained_apart() == ["renderer"]
    two.save_pretrained(tmp_path / "both")
    again = rdvfi.create_model(tmp_path / "both")
    assert again.parts_trained_apart() == ["renderer"]
    again.mark_trained("renderer")
    assert again.parts_trained_apart() == []


def test_parts_of_one_model_are_not_apart_in_another(saved: Path, tmp_path: Path) -> None:
    whole = rdvfi.create_model(saved)
    whole.mark_trained("backbone", "trajectory", "renderer")
    whole.save_pretrained(tmp_path / "whole")
    model = rdvfi.create_model(saved)
    for part in ("backbone", "trajectory", "renderer"):
        model.load_part(part, tmp_path / "whole")
    assert model.untrained_parts() == []
    assert model.parts_trained_apart() == []
    model.mark_trained("trajectory")  # it learned further, and the rest did not
    model.load_part("renderer", tmp_path / "whole")
    assert model.parts_trained_apart() == ["renderer"]


def test_a_part_of_another_kind_is_refused(saved: Path) -> None:
    model = toy.toy_model(tint=0.5)
    with pytest.raises(
        ValueError, match=r"weights of the renderer in \S+rdvfi-s\.json do not fit .*'synthesis'.*'toy'"
    ):
        model.load_part("renderer", "rdvfi-s")
    with pytest.raises(ValueError, match="one of backbone, trajectory, renderer; got 'x'"):
        model.load_part("x", saved)
    with pytest.raises(ValueError, match="a part is one of"):
        model.save_pretrained(saved, parts=["x"])
    for none in ("renderer", []):
        with pytest.raises(ValueError, match="parts must be a list of parts, at least one; got"):
            model.save_pretrained(saved, parts=none)
    model.load_part("backbone", saved)
    assert model.untrained_parts() == ["trajectory", "renderer"]
    assert model.parts_trained_apart() == []  # the only one that is trained


def test_other_plain_values_are_said_and_do_not_stand_in_the_way(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = toy.toy_model(tint=0.5)
    model.load_part("renderer", saved)
    assert torch.equal(model.renderer.tint, torch.full((3,), 0.25))  # pyright: ignore
    assert "were trained with other values: tint=0.5 (there 0.25)" in caplog.text


def test_missing_files_are_named(saved: Path, tmp_path: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors does not exist"):
        rdvfi.create_model(saved)
    (saved / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json does not exist"):
        rdvfi.create_model(saved)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        rdvfi.create_model(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        rdvfi.create_model("./no/where")


@pytest.mark.usefixtures("unchecked")
def test_unknown_models_get_the_close_match() -> None:
    with pytest.raises(ValueError, match="no model named 'rdvfis'; did you mean 'rdvfi-s'"):
        rdvfi.create_model("rdvfis")
    for dtype in (torch.uint8, torch.complex64, torch.float8_e5m2, "float16", np.float16, None):
        with pytest.raises(ValueError, match=r"dtype must be torch\.float32, .*; got"):
            rdvfi.create_model("rdvfi-s", dtype=dtype)  # pyright: ignore[reportArgumentType]
    for device in ("x", None, [1]):
        with pytest.raises(ValueError, match=r"device is .*; expected a name such as cpu"):
            rdvfi.create_model("rdvfi-s", device=device)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"device is 'cuda:77', but .* CUDA devices are available"):
        rdvfi.create_model("rdvfi-s", device="cuda:77")


def test_a_device_that_torch_sees_and_cannot_use_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update it")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "init", too_old)
    with pytest.raises(ValueError, match=r"^device is 'cuda', which cannot be used here: The NVIDIA driver .*\)\.$"):
        rdvfi.create_model("rdvfi-s", device="cuda")


@pytest.mark.parametrize("name", ["rdvfi-d", "rdvfi_u", "RDVFI-D"])
def test_models_without_public_weights_say_so(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"no public weights.*rdvfi train"):
        rdvfi.create_model(name)


def test_a_shipped_model_is_a_pair_of_half_precision_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy.toy_model(tint=0.1)
    model.mark_trained("backbone", "trajectory", "renderer")
    models.save_bundled(model, "rdvfi-s", tmp_path)
    stored = safetensors.torch.load_file(tmp_path / "rdvfi-s.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    monkeypatch.setattr(model_names, "WEIGHTS_FOLDER", tmp_path)
    assert rdvfi.list_models() == ["rdvfi-s"]
    loaded = Interpolator.from_files(bundled_files("rdvfi-s", tmp_path))
    assert loaded.untrained_parts() == []
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, model.state_dict()[name].half().float())


def test_weights_beyond_half_precision_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"renderer.tint has values that are not finite in half precision"):
        models.save_bundled(toy.toy_model(tint=1e6), "big", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_config_files_are_never_half_written(tmp_path: Path) -> None:
    config = toy.toy_model().pretrained()
    config.renderer["config"]["tint"] = float("nan")  # JSON has no NaN
    with pytest.raises(ValueError):
        write_config(tmp_path / "config.json", config)
    assert list(tmp_path.iterdir()) == []


_HUB = """
import os
os.environ.update(HF_ENDPOINT="http://127.0.0.1:9", HF_HOME={home!r})
import rdvfi
from rdvfi.interpolator import Interpolator
try:
    rdvfi.create_model("nobody/nothing")
except ConnectionError as error:
    assert "'nobody/nothing' is not a folder here, and cannot be fetched" in str(error), error
else:
    raise SystemExit("no error")
import sys
sys.path.insert(0, {tests!r})
import toy
with toy.registered():
    try:
        toy.toy_model().push_to_hub("nobody/nothing", parts=["renderer"])
    except ConnectionError as error:
        assert "cannot upload 'nobody/nothing'" in str(error), error
    else:
        raise SystemExit("no error")
"""


def test_a_hub_out_of_reach_is_a_clear_error(tmp_path: Path) -> None:
    program = _HUB.format(home=str(tmp_path), tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


_AS_IT_WAS = (
    (0.9908, 0.6135, 0.6147, 0.3461, 0.8796), (0.2830, 0.6083, 0.7003, 0.4424, 0.7924),
    (0.9021, 0.1583, 0.2265, 0.5857, 0.7217), (0.3965, 0.6483, 0.6355, 0.4293, 0.7318),
    (0.1767, 0.3641, 0.4989, 0.1036, 0.5523), (0.6273, 0.5763, 0.4117, 0.0104, 0.2756),
)  # fmt: skip
"""Green of every eleventh row and twenty-fifth column of a frame, drawn when RDVFI-S1 was the default."""


def test_the_earlier_model_draws_what_it_drew(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    texture = toy.textured(1, 108, 140, seed=5)
    first, last = texture[..., 6:102, :128], texture[..., :96, 9:137]
    rdvfi.create_model("rdvfi-s1").save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())["backbone"]["config"]["coarse"]["name"]
    assert saved == "matched-dis"
    frame = rdvfi.create_model(tmp_path)(first, last, [0.3])[0, 0, 1, 20:76:11, 17:120:25]
    torch.testing.assert_close(frame, torch.tensor(_AS_IT_WAS), rtol=0, atol=4e-3)


def test_former_names_still_find_the_model_and_the_recipe(caplog: pytest.LogCaptureFixture) -> None:
    model, named = rdvfi.create_model("rdvfi-s2"), rdvfi.create_model("rdvfi-s")
    assert model.pretrained() == named.pretrained()
    assert "the model rdvfi-s2 has been renamed to rdvfi-s" in caplog.text
    assert rdvfi.build("rdvfi-s2").pretrained().backbone == rdvfi.build("rdvfi_s").pretrained().backbone
    assert "the recipe rdvfi_s2 has been renamed to rdvfi_s" in caplog.text
    assert "rdvfi-s2" not in rdvfi.list_models()
