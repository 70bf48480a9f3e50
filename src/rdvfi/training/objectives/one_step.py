"""Training of the one-step diffusion model (the paper's second stage).

The denoiser learns to predict clean latents from noisy ones, at noise levels whose lower bound rises to pure noise
(`rdvfi.training.losses.denoising.sample_noise_levels`). Motion and synthesis are frozen. The losses are L_theta of
the prediction, L_rec of frames rendered from the predicted keyframes, and, if the network predicts residual
motion, its difference to exact flow.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.interfaces import Condition, Keyframes, NoiseProcess
from rdvfi.interpolator import Interpolator
from rdvfi.motion.trajectory.straight_motion import straight_motion_of
from rdvfi.training.losses.denoising import sample_noise_levels
from rdvfi.training.losses.evidence import Evidence, FlowPair, GeneratorSampler, Needs, WeightedLosses
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.training.objectives.decoding import ReconstructionObjective
from rdvfi.training.objectives.objective import Batch, Losses
from rdvfi.training.objectives.training_step import TrainingStep


class DiffusionObjective(ReconstructionObjective):
    """Train the generator's network towards one step from pure noise.

    Args:
        model: The whole model; parameters that are not frozen are trained.
        losses: Losses on velocity, frames, maps, flow and samples.
        low: Lower bound of the noise level at the start.
        rise: Fraction of training over which it rises to 1.
        reconstruct_from: Fraction of training after which frames are rendered.
    """

    def __init__(
        self,
        model: Interpolator,
        losses: WeightedLosses,
        *,
        low: float = 0.3,
        rise: float = 0.6,
        reconstruct_from: float = 0.0,
    ) -> None:
        super().__init__(model, losses)
        if not 0 < low <= 1:
            raise ValueError(f"noise.low must be in (0, 1]; got {low}")
        process = model.generator.noise_process
        if process is None:
            raise ValueError(
                f"{type(model.generator).__name__} reads no noise (noise_process), so it cannot be trained by diffusion"
            )
        self.process: NoiseProcess = process
        self.low, self.rise, self.reconstruct_from = low, rise, reconstruct_from

    def forward(self, batch: Batch, step: TrainingStep) -> Losses:
        clip, generator = self.read_clip(batch), self.model.generator
        latents = self.encode_fixed(clip)
        condition = self.condition(clip, latents[:, 0], latents[:, -1])
        clean = generator.target_latents(latents)
        noise = step.normal(*clean.shape).to(clean)
        sigma = sample_noise_levels(step, clean.shape[0], low=self.low, rise=self.rise)
        noisy = self.process.add_noise(clean, noise, sigma)
        predicted = generator.predict(noisy, sigma, condition)
        velocity = self.process.velocity_from_clean(noisy, predicted.latents, sigma).float()
        target_velocity = self.process.velocity(clean, noise, sigma).float()
        keyframes = generator.keyframes(condition, predicted)
        frames = maps = None
        if step.progress >= self.reconstruct_from and self.losses.needs_any(Needs.FRAMES, Needs.MAPS):
            decoded = self.add_images(keyframes, clip)
            frames, maps = self.render_frames(decoded, self.model.trajectory(decoded), clip, step)
        evidence = Evidence(
            step.progress,
            frames=frames,
            maps=maps,
            flow=self._residual_motion(keyframes, clip),
            velocity=(velocity, target_velocity),
            sampler=self._sampler(condition, clean, step),
        )
        return self.losses(evidence)

    def _sampler(
        self, condition: Condition, clean: Float[Tensor, "b n c hz wz"], step: TrainingStep
    ) -> GeneratorSampler | None:
        if not self.losses.needs_any(Needs.SAMPLER):
            return None
        pure_noise = torch.ones(clean.shape[0], device=clean.device)

        def sample(noise: Tensor) -> Tensor:
            return self.model.generator.predict(noise, pure_noise, condition).latents

        return GeneratorSampler(sample, clean, step)

    def _residual_motion(self, keyframes: Keyframes, clip: ClipBatch) -> FlowPair | None:
        """The flows with predicted residual motion at the inner knots, and the exact ones."""
        has_motion = keyframes.prior is not None and keyframes.prior.residual_motion is not None
        if clip.flows is None or not has_motion or not self.losses.needs_any(Needs.FLOW):
            return None
        exact, visible = clip.knot_flows()
        to_first, to_last = straight_motion_of(keyframes).flows.chunk(2)
        predicted = torch.stack((to_first, to_last.flip(1)), dim=2)
        inner = slice(1, -1)
        return FlowPair(predicted[:, inner], exact[:, inner], visible[:, inner])

    def _sheet_keyframes(self, clip: ClipBatch, step: TrainingStep) -> Keyframes:
        return self.predicted_keyframes(clip, step)
