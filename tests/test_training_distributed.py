"""Two processes train what one trains: data parallel, and sharded with LoRA and checkpointing."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

import distributed
import rdvfi
from rdvfi.backbones.merge_lora import merge_lora
from rdvfi.saved_models.weight_files import write_weights
from rdvfi.training.engine.sharding import shard_objective
from rdvfi.training.lora import LoraLinear, add_lora, lora_state, merge_lora_layers


def _two_processes(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {
        **os.environ,
        "PYTHONPATH": str(Path(rdvfi.__file__).parent.parent),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
    }
    command = [sys.executable, distributed.__file__, str(folder)]
    with subprocess.Popen(
        command, env=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as started:
        try:
            said = started.communicate(timeout=300)[0]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
    assert started.returncode == 0, said


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    _two_processes(tmp_path)
    ends = torch.load(tmp_path / "end.pt", weights_only=True)
    alone = distributed.fit(tmp_path / "alone", "one", 1, low_rank=False, sharded=False)
    low = distributed.fit(tmp_path / "low", "one", 1, low_rank=True, sharded=False)
    start = distributed.Regression().state_dict()
    for key, expected in alone.state_dict().items():
        torch.testing.assert_close(ends["parallel"][key], expected, rtol=0, atol=1e-5)
    assert not torch.equal(ends["parallel"]["blocks.0.enter.weight"], start["blocks.0.enter.weight"])
    for way in ("sharded", "resumed"):
        for key, expected in low.state_dict().items():
            torch.testing.assert_close(ends[way][key], expected, rtol=0, atol=1e-5)


def _network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 5))


def test_additions_start_at_nothing_and_merging_keeps_what_they_learned(tmp_path: Path) -> None:
    x, network = torch.randn(4, 5), _network()
    plain = network(x)
    assert add_lora(network, ["2"], rank=3, alpha=6.0) == ["2"]
    assert torch.equal(network(x), plain)
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert trained == ["2.down", "2.up"]
    network(x).square().sum().backward()
    layer = network[2]
    assert isinstance(layer, LoraLinear)
    assert layer.up.grad is not None
    assert bool(layer.up.grad.any())
    with torch.no_grad():
        layer.up.normal_()
    learned = network(x)
    assert not torch.allclose(learned, plain, atol=1e-2)
    write_weights(tmp_path / "lora.safetensors", lora_state(network))
    merge_lora_layers(network)
    torch.testing.assert_close(network(x), learned)
    assert list(network.state_dict()) == list(_network().state_dict())
    other = _network()
    assert merge_lora(other, tmp_path / "lora.safetensors") == 1  # the loader of LoRA files agrees
    torch.testing.assert_close(other(x), learned)


def test_invalid_lora_and_sharding_are_refused() -> None:
    with pytest.raises(ValueError, match="no linear layer of this Sequential ends in to_q, 1"):
        add_lora(_network(), ["to_q", "1"], rank=2, alpha=2.0)
    with pytest.raises(ValueError, match=r"lora\.rank must be at least 1; got 0"):
        add_lora(_network(), ["2"], rank=0, alpha=2.0)
    with pytest.raises(RuntimeError, match="sharding needs several processes"):
        shard_objective(distributed.Regression(), [])
