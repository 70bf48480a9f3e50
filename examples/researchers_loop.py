"""Register a basis and a backbone, exchange them into RDVFI-S, measure, sweep, fine-tune, load the result by name."""

import contextlib
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

import rdvfi
from rdvfi.training.run import train
from rdvfi_cli.main import main

CLIPS = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/clips")  # a folder of videos
CLIP, OUT = str(next(CLIPS.glob("*.mp4"))), Path(sys.argv[2] if len(sys.argv) > 2 else "runs/loop")


@rdvfi.bases.register("two-point")
class TwoPoint(rdvfi.Basis):
    """Straight lines between neighbouring knots."""

    reach = 1

    def weights(self, knots: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        hats = 1 - (times[:, None] - knots).abs() * (len(knots) - 1)  # for evenly spaced knots
        return hats.clamp(min=0)


@rdvfi.backbones.register("faded")
class Faded(rdvfi.KeyframeGenerator):
    """Keyframes that fade from one frame's small colours to the other's."""

    stride, latent_channels = 8, 16

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return 4 * (F.avg_pool2d(images, 8).repeat(1, 6, 1, 1)[:, :16] - 0.5)

    def denoise(self, noisy, sigma, condition):
        share = self.times(noisy.device)[1:-1, None, None, None]
        return torch.lerp(condition.latent0[:, None], condition.latent1[:, None], share)


names = {"as it is": (), "basis": ("basis=two-point",), "backbone": ("backbone=faded",)}
names["both"] = names["basis"] + names["backbone"]
models = {name: rdvfi.create_model("rdvfi-s", *parts) for name, parts in names.items()}
report = rdvfi.evaluate(CLIP, gap=2, pairs=2, models=models)
print("\n".join(f"{s.method}: {s.psnr:.2f} dB, {s.ms_per_frame:.0f} ms a frame" for s in report.scores))

with contextlib.suppress(SystemExit):  # the command ends the program when it is done
    main(
        ["evaluate", CLIP, "--gap", "2", "--pairs", "1", "-m", "basis=two-point,cubic", "trajectory.knots=FIXED,MOVED"]
    )

models["basis"].save_pretrained(OUT / "start")
minute = [f"data.clips={CLIPS}", f"model.start={OUT / 'start'}", f"out={OUT}", "engine.max_minutes=1", *sys.argv[3:]]
train("rdvfi_s/finetune", minute, report=print)
print(rdvfi.create_model(OUT))
