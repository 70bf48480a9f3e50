"""Saved models from anywhere: one clear line, no code, no memory for what does not agree."""

import json
import os
import resource
import struct
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

import rdvfi
from rdvfi._small_text import read_small_yaml
from rdvfi.registry import flows


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    rdvfi.create_model("rdvfi-s1").save_pretrained(folder)
    return folder


def _copy_model(shipped: Path, folder: Path, change=None) -> Path:
    config = json.loads((shipped / "config.json").read_text())
    if change is not None:
        change(config)
    (folder / "config.json").write_text(json.dumps(config))
    os.link(shipped / "model.safetensors", folder / "model.safetensors")
    return folder


def _set_value(config: dict, place: str, value: object) -> None:
    *path, last = place.split(".")
    for key in path:
        config = config[key]
    config[last] = value


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("backbone.config.width", 20_000, "describes a backbone that is larger than its weights"),
        ("backbone.config.width", 10**9, "describes a backbone that is larger than its weights"),
        ("backbone.config.width", -1, "backbone 'compact' cannot be made with .*width=-1"),
        ("backbone.config.encoder_width", 10**7, "larger than its weights"),
        ("backbone.config.coarse.config.heads", 0, "heads must be 1 to 128; got 0"),
        ("backbone.config.coarse.config.blocks", 10**6, "blocks must be 1 to 128"),
        ("backbone.config.coarse.config.blocks", 128, "larger than its weights|weights of another model"),
        ("backbone.config.coarse.config.steps", 10**9, "steps must be 0 to 128"),
        ("trajectory.config.flow.config.radius", 10**5, "radius must be 1 to 128"),
        ("renderer.config.width", 49, "weights of another model|cannot be made"),
        ("motion_area", 10**18, "motion_area must be a number of pixels"),
        (
            "backbone.config.coarse",
            {"name": "timm-pyramid", "config": {"network": "hf-hub:evil/model", "pretrained": True}},
            "network is 'hf-hub:evil/model'",
        ),
        (
            "backbone.config.coarse",
            {"name": "timm-pyramid", "config": {"network": "local-dir:/tmp", "pretrained": False}},
            "network is 'local-dir:/tmp'",
        ),
        ("renderer", 3, "described by a name and a config"),
    ],
)
def test_a_wrong_value_is_one_line_and_takes_no_memory(shipped, tmp_path, place, value, message) -> None:
    folder = _copy_model(shipped, tmp_path, lambda config: _set_value(config, place, value))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ValueError, match=message) as caught:
        rdvfi.Interpolator.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000, "kilobytes"
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000 + "]" * 200_000,
        '{"format": ' + "9" * 5000 + "}",
        " " * (2**20 + 1),
        "\x00",
        '{"a":' * 5000 + "1" + "}" * 5000,
    ],
)
def test_a_configuration_is_read_within_bounds(shipped, tmp_path, text) -> None:
    (_copy_model(shipped, tmp_path) / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json (is not valid JSON|is nested too deeply)"):
        rdvfi.Interpolator.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_never_read(shipped, tmp_path, name, kind) -> None:
    path = _copy_model(shipped, tmp_path) / name
    path.unlink()
    {"pipe": os.mkfifo, "device": lambda place: place.symlink_to("/dev/zero"), "folder": os.mkdir}[kind](path)
    with pytest.raises(ValueError, match=r"no regular file|is a folder"):
        rdvfi.Interpolator.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64, torch.int64, torch.bool])
def test_weights_of_a_strange_type_are_named(shipped, tmp_path, dtype) -> None:
    path = _copy_model(shipped, tmp_path) / "model.safetensors"
    state = safetensors.torch.load_file(path)
    name = next(name for name, tensor in state.items() if tensor.is_floating_point())
    state[name] = state[name].to(dtype)
    path.unlink()
    safetensors.torch.save_file(state, path)
    with pytest.raises(ValueError, match=f"holds {name} as "):
        rdvfi.Interpolator.from_pretrained(tmp_path)


@pytest.mark.parametrize("header", [b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}', b"{", b""])
def test_headers_of_weights_that_lie_are_refused(shipped, tmp_path, header) -> None:
    path = _copy_model(shipped, tmp_path) / "model.safetensors"
    path.unlink()
    path.write_bytes(struct.pack("<Q", len(header) or 2**62) + header + bytes(4))
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        rdvfi.Interpolator.from_pretrained(tmp_path)


def test_a_whole_model_loads_as_before(shipped, tmp_path) -> None:
    loaded = rdvfi.Interpolator.from_pretrained(_copy_model(shipped, tmp_path))
    expected = rdvfi.create_model("rdvfi-s1").state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_factories_name_values_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="flow 'matching': heads must be 1 to 128; got 0"):
        flows.create("matching", heads=0)
    with pytest.raises(ValueError, match=r"width must be a multiple|cannot be made with width=-8"):
        flows.create("matching", width=-8)
    with pytest.raises((ValueError, MemoryError), match="flow 'local'"):
        flows.create("local", width=10**9)


def test_yaml_is_read_within_bounds(tmp_path) -> None:
    path, rows = tmp_path / "bomb.yaml", ["a: &a [1,1,1,1,1,1,1,1,1,1]"]
    rows += [f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]" for i in range(9)]
    for text, message in (
        ("\n".join(rows), "more than 100000 values"),
        ("[" * 20_000, "nested too deeply"),
        ("a: &a [*a]", "nested too deeply, or in itself"),
        ("x" * (2**20 + 1), "larger than"),
        ("a: 1\nb: {c: 1,\n  c: 2}\n", "has the key 'c' twice, in lines 2 and 3"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_small_yaml(path)
    path.write_text("a: &a [1, 2]\nb: *a\n")
    assert read_small_yaml(path) == {"a": [1, 2], "b": [1, 2]}
