"""What each of several processes trains, for the tests: data parallel, then sharded with LoRA."""

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rdvfi.training.engine.loop import Trainer
from rdvfi.training.engine.settings import EngineConfig
from rdvfi.training.engine.sharding import gather_parameters
from rdvfi.training.lora import add_lora
from rdvfi.training.objectives.objective import Batch, Losses, Objective
from rdvfi.training.objectives.training_step import TrainingStep

GLOBAL_BATCH = 4


class Block(nn.Module):
    """A residual pair of linear layers, recomputed in the backward pass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + checkpoint(lambda y: self.leave(self.enter(y).tanh()), x, use_reentrant=False)


class Regression(Objective):
    """Fit a noisy linear map."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.blocks = nn.Sequential(*(Block(6) for _ in range(3)))
        self.frozen = nn.Linear(6, 6).requires_grad_(False)

    def forward(self, batch: Batch, step: TrainingStep) -> Losses:
        x = batch["x"] + 0.1 * step.normal(*batch["x"].shape)
        return {"square": (self.blocks(x) - self.frozen(batch["x"])).square().mean()}


class Numbers:
    """Samples by number; ``size`` of them make a batch."""

    def __init__(self, size: int) -> None:
        self.size = size

    def batches(self, start: int, step: int = 1) -> Iterator[Batch]:
        for number in itertools.count(start, step):
            draws = (torch.Generator().manual_seed(number * self.size + i) for i in range(self.size))
            yield {"x": torch.stack([torch.randn(6, generator=draw) for draw in draws])}


CONFIG = EngineConfig(steps=8, rate=1e-2, warmup=2, accumulate=2, bfloat16=False, device="cpu", save_every=4)


def fit(folder: Path, name: str, processes: int, *, low_rank: bool, sharded: bool) -> Objective:
    """Train one way; the same global batches whatever the number of processes."""
    objective = Regression()
    if low_rank:
        add_lora(objective.blocks, ["enter", "leave"], rank=2, alpha=4.0)
    trainer = Trainer(
        name,
        objective,
        Numbers(GLOBAL_BATCH // processes),
        CONFIG,
        folder,
        report=lambda line: None,
        shard_blocks=objective.blocks if sharded else None,
    )
    assert trainer.fit()
    if sharded:
        gather_parameters(objective)
    return objective


def main(folder: Path) -> None:
    """One of two processes."""
    parallel = fit(folder, "parallel", 2, low_rank=False, sharded=False)
    first = fit(folder, "sharded", 2, low_rank=True, sharded=True)
    # Sharded state comes back from a whole checkpoint: the last one goes, the last half is redone.
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        (folder / "checkpoints/sharded-000000008.safetensors").unlink()
    torch.distributed.barrier()
    again = fit(folder, "sharded", 2, low_rank=True, sharded=True)
    if torch.distributed.get_rank() == 0:
        states = {"parallel": parallel, "sharded": first, "resumed": again}
        torch.save({key: value.state_dict() for key, value in states.items()}, folder / "end.pt")
    torch.distributed.barrier()  # nobody leaves while another still talks to it
    torch.distributed.destroy_process_group()


def start(folder: Path) -> int:
    """Both processes, the second one a copy of the first when everything is imported; 0 if both succeed."""
    torch.set_num_threads(1)
    other = os.fork()
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(int(not other))
    code = 1
    try:
        main(folder)
        code = 0
    except BaseException:
        traceback.print_exc()
        if other:
            os.kill(other, signal.SIGKILL)
    sys.stdout.flush()
    if other == 0 or code:
        return code
    return os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])


if __name__ == "__main__":
    os._exit(start(Path(sys.argv[1])))  # gloo's own threads may abort an interpreter that is being torn down
