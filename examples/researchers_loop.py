"""Register a basis and a backbone, exchange them into RDVFI-S, measure, sweep, fine-tune, load the result by name."""

import sys

import torch
import torch.nn.functional as F

import rdvfi


@rdvfi.bases.register("two-point")
class TwoPoint(rdvfi.Basis):
    reach = 1

    def weights(self, knots, times):
        return (1 - (times[:, None] - knots).abs() * (len(knots) - 1)).clamp(min=0)


@rdvfi.backbones.register("faded")
class Faded(rdvfi.KeyframeGenerator):
    stride, latent_channels, gives_prior = 8, 16, True

    def __init__(self, *, coarse: rdvfi.CoarseFlow):
        super().__init__()
        self.coarse = coarse

    def encode(self, images):
        return 4 * (F.avg_pool2d(images, 8).repeat(1, 6, 1, 1)[:, :16] - 0.5)

    def denoise(self, noisy, sigma, condition):
        share = self.times(noisy.device)[1:-1, None, None, None]
        return torch.lerp(condition.latent0[:, None], condition.latent1[:, None], share)


choices = ("", "basis=two-point", "backbone=faded", "basis=two-point backbone=faded")
models = {parts or "as it is": rdvfi.create_model("rdvfi-s", *parts.split()) for parts in choices}
print(rdvfi.evaluate("clips/clip.mp4", gap=2, pairs=2, models=models))
print(rdvfi.sweep("clips/clip.mp4", "basis=two-point,cubic", "trajectory.knots=FIXED,MOVED", gap=2, pairs=1))
models["basis=two-point"].save_pretrained("runs/start")
own = ["data.clips=clips", "model.start=runs/start", "out=runs/loop", "engine.max_minutes=1", *sys.argv[1:]]
rdvfi.train("rdvfi_s/finetune", own)
print(rdvfi.create_model("runs/loop"))
