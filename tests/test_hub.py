"""Models on the Hugging Face hub, against a server on this machine that speaks its language."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import hub_server
import rdvfi
from hub_server import Hub
from rdvfi.saved_models.model_card import GENERATED_MARK

# Of the hub's client, about itself.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")


def _point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does where it is set before the client is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, and a client that knows it, signed in, with an empty cache."""
    with hub_server.running() as server:
        _point_to(server.address, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        yield server


@pytest.fixture(scope="module")
def shipped() -> rdvfi.Interpolator:
    return rdvfi.create_model("rdvfi-s")


def test_a_model_comes_back_from_the_hub_as_it_went(hub: Hub, shipped: rdvfi.Interpolator) -> None:
    address = shipped.push_to_hub("somebody/small", message="The first one")
    (created, commit) = hub.repositories["somebody/small"].commits
    assert (address, commit[1]) == (f"{hub.address}/somebody/small/commit/{commit[0]}", "The first one")
    assert set(commit[2]) == {"config.json", "model.safetensors", "README.md"}, "all files in one commit"
    assert created[2] == {}
    loaded = rdvfi.create_model("somebody/small")
    assert loaded.pretrained() == shipped.pretrained()
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in shipped.state_dict().items())
    assert loaded.untrained_parts() == shipped.untrained_parts() == []


def test_the_card_of_the_shipped_model_is_its_own(hub: Hub, shipped: rdvfi.Interpolator) -> None:
    shipped.push_to_hub("somebody/small")
    page = hub.repositories["somebody/small"].commits[-1][2]["README.md"].decode()
    head = page.split("---")[1].splitlines()
    assert {"license: apache-2.0", "library_name: rdvfi", "pipeline_tag: video-to-video"} <= set(head)
    assert "# RDVFI-S: model card" in page
    assert "Big Buck Bunny" in page, "attributions come along"
    assert "To be filled in" not in page


def test_a_card_that_somebody_wrote_stays(hub: Hub, shipped: rdvfi.Interpolator) -> None:
    other = rdvfi.create_model("rdvfi-s", "basis=linear")  # no longer what its card describes
    other.push_to_hub("somebody/small")
    files = hub.repositories["somebody/small"].commits[-1][2]
    assert b"To be filled in" in files["README.md"]
    assert GENERATED_MARK in files["README.md"].decode()
    files["README.md"] = b"# Mine\n\nTrained on my holidays.\n"
    shipped.push_to_hub("somebody/small")
    now = hub.repositories["somebody/small"].commits[-1][2]
    assert now["README.md"] == b"# Mine\n\nTrained on my holidays.\n"
    assert now["config.json"] != files["config.json"]


def test_revisions_and_the_cache_without_a_network(
    hub: Hub, shipped: rdvfi.Interpolator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped.push_to_hub("somebody/small")
    first = hub.repositories["somebody/small"].commits[-1][0]
    rdvfi.create_model("rdvfi-s", "basis=linear").push_to_hub("somebody/small")
    old = rdvfi.Interpolator.from_pretrained("somebody/small", revision=first)
    new = rdvfi.Interpolator.from_pretrained("somebody/small")
    assert (old.trajectory.basis, new.trajectory.basis) != (None, None)
    assert old.pretrained() == shipped.pretrained() != new.pretrained()
    _point_to("http://127.0.0.1:9", monkeypatch)  # nobody answers there
    asked = len(hub.requests)
    assert rdvfi.create_model("somebody/small").pretrained() == new.pretrained(), (
        "the cache is used where nobody answers"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert rdvfi.create_model("somebody/small").pretrained() == new.pretrained()
    with pytest.raises(ConnectionError, match=r"'somebody/other' is not a folder here, and cannot be fetched"):
        rdvfi.create_model("somebody/other")
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        shipped.push_to_hub("somebody/small")
    assert len(hub.requests) == asked


def test_errors_say_what_to_do(hub: Hub, shipped: rdvfi.Interpolator, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="'somebody/nothing' is neither a folder here nor a model that"):
        rdvfi.create_model("somebody/nothing")
    shipped.push_to_hub("somebody/hidden", private=True)
    with pytest.raises(FileNotFoundError, match="'somebody/hidden' is neither"):
        rdvfi.Interpolator.from_pretrained("somebody/hidden", revision="no-such-branch")
    with pytest.raises(ValueError, match="not a/valid/name"):
        shipped.push_to_hub("not a/valid/name")
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(FileNotFoundError, match="'somebody/hidden' is neither"):
        rdvfi.create_model("somebody/hidden")
    with pytest.raises(PermissionError, match=r"cannot upload 'somebody/small': .* denies write access; sign in"):
        shipped.push_to_hub("somebody/small")
    assert "somebody/small" not in hub.repositories


def test_a_damaged_upload_of_somebody_is_refused(hub: Hub, shipped: rdvfi.Interpolator) -> None:
    shipped.push_to_hub("somebody/small")
    files = hub.repositories["somebody/small"].commits[-1][2]
    files["model.safetensors"] = files["model.safetensors"][:1000]
    with pytest.raises(ValueError, match="is damaged or not a safetensors file"):
        rdvfi.create_model("somebody/small")
    hub.repositories["somebody/small"].commits.append(("f" * 40, "lost", {"config.json": files["config.json"]}))
    with pytest.raises(FileNotFoundError, match="the weights of this model"):
        rdvfi.Interpolator.from_pretrained("somebody/small")


@pytest.mark.slow
def test_the_command_takes_a_model_of_the_hub_that_the_environment_names(
    hub: Hub, shipped: rdvfi.Interpolator, tmp_path: Path
) -> None:
    shipped.push_to_hub("somebody/small")
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    clip = Path(__file__).parents[1] / "examples/clips/branch.mp4"
    command = [sys.executable, "-m", "rdvfi", "interpolate", str(clip), str(tmp_path / "out.mp4"), "--end", "0.2"]
    done = subprocess.run([*command, "--model", "somebody/small"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").stat().st_size > 1000
