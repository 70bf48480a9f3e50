"""Training of the one-step diffusion model (the paper's second stage).

Noisy latents go in, clean ones come out, at noise levels whose lower bound rises to pure noise
(`rdvfi.training.losses.denoising.rising_noise_level`). Motion and synthesis are frozen; the generator's
network is trained by L_theta, by the loss of the frames drawn from its keyframes (L_rec), and, if it predicts
residual motion, by exact flow.
"""

import torch

from rdvfi.interfaces import Keyframes, NoiseProcess
from rdvfi.interpolator import Interpolator
from rdvfi.motion.trajectory.straight_motion import straight_motion_of
from rdvfi.training.losses.denoising import rising_noise_level
from rdvfi.training.losses.evidence import Evidence, FlowPair, GeneratorSampler, Needs, Terms
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.training.objectives.decoding import Reconstructing
from rdvfi.training.objectives.objective import Batch, Losses
from rdvfi.training.objectives.training_step import TrainingStep


class Diffusing(Reconstructing):
    """Train the generator's network towards one step from pure noise.

    Args:
        model: The whole model; what is not frozen is trained.
        terms: Losses.
        low: Lower bound of the noise level at the start.
        rise: Share of training over which it rises to 1.
        reconstruct_from: Share of training after which frames are rendered.
    """

    def __init__(
        self, model: Interpolator, terms: Terms, *, low: float = 0.3, rise: float = 0.6, reconstruct_from: float = 0.0
    ) -> None:
        super().__init__(model, terms)
        if not 0 < low <= 1:
            raise ValueError(f"noise.low must be in (0, 1]; got {low}")
        process = model.generator.noise_process
        if process is None:
            raise ValueError(
                f"{type(model.generator).__name__} reads no noise (noise_process), so it cannot be diffused"
            )
        self.process: NoiseProcess = process
        self.low, self.rise, self.reconstruct_from = low, rise, reconstruct_from

    def forward(self, batch: Batch, moment: TrainingStep) -> Losses:
        clip, generator, process = self.clip(batch), self.model.generator, self.process
        latents = self.encoded(clip)
        condition = self.condition(clip, latents[:, 0], latents[:, -1])
        clean = generator.target_latents(latents)
        noise = moment.normal(*clean.shape).to(clean)
        sigma = rising_noise_level(moment, clean.shape[0], low=self.low, rise=self.rise)
        noisy = process.add_noise(clean, noise, sigma)
        predicted = generator.predict(noisy, sigma, condition)
        answer = process.velocity_from_clean(noisy, predicted.latents, sigma).float()
        target = process.velocity(clean, noise, sigma).float()
        keyframes = generator.keyframes(condition, predicted)
        frames = drawing = sampler = None
        rendering = moment.progress >= self.reconstruct_from
        if rendering and self.terms.need(Needs.FRAMES, Needs.DRAWING):
            seen = self.with_images(keyframes, clip)
            frames, drawing = self.rendered(seen, self.model.trajectory(seen), clip, moment)
        if self.terms.need(Needs.SAMPLER):
            pure = torch.ones_like(sigma)

            def sample(noise: torch.Tensor) -> torch.Tensor:
                return generator.predict(noise, pure, condition).latents

            sampler = GeneratorSampler(sample, clean, moment)
        evidence = Evidence(
            moment.progress,
            frames=frames,
            drawing=drawing,
            flow=self._residual_motion(keyframes, clip),
            velocity=(answer, target),
            sampler=sampler,
        )
        return self.terms(evidence)

    def _residual_motion(self, keyframes: Keyframes, clip: ClipBatch) -> FlowPair | None:
        """The predicted and the exact residual motion, between the ends."""
        moved = keyframes.prior is not None and keyframes.prior.residual_motion is not None
        if clip.flows is None or not moved or not self.terms.need(Needs.FLOW):
            return None
        exact, seen = clip.knot_flows()
        to_first, to_last = straight_motion_of(keyframes).flows.chunk(2)
        made = torch.stack((to_first, to_last.flip(1)), dim=2)
        inner = slice(1, -1)
        return FlowPair(made[:, inner], exact[:, inner], seen[:, inner])

    def _shown(self, clip: ClipBatch, moment: TrainingStep) -> Keyframes:
        return self.predicted_keyframes(clip, moment)
