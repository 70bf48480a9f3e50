"""Training of motion and synthesis (the paper's first stage), and of the autoencoder.

True latents of the knots go in, frames at free times come out; phi_1, phi_2 and phi_s learn, the
backbone and its autoencoder are frozen. Beside the paper's reconstruction loss, exact flow of
procedural scenes may supervise the motion, since with small budgets photometric losses hardly improve it. Stage 3 is
the same with keyframes predicted by the generator, as in inference.
"""

from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.data.synthetic.procedural_source import KNOTS
from rdvfi.geometry import resize_flow
from rdvfi.interfaces import Condition, Keyframes, MotionPrior, Reads, Trajectory
from rdvfi.interpolator import Interpolator
from rdvfi.media.pixels import Picture, to_pixels
from rdvfi.motion.trajectory.straight_motion import StraightMotion, straight_motion_of
from rdvfi.render.base import RefiningRenderer
from rdvfi.training.losses.evidence import Drawing, Evidence, FlowPair, FramePair, Needs, Terms
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.training.objectives.objective import Batch, Losses, Objective
from rdvfi.training.objectives.rendering import drawing_of, render_free
from rdvfi.training.objectives.training_step import TrainingStep
from rdvfi.training.sample_sheet import draw_sheet


class Reconstructing(Objective):
    """Base of decoding and diffusion: keyframes of true frames, and frames from keyframes."""

    def __init__(self, model: Interpolator, terms: Terms) -> None:
        super().__init__()
        self.model, self.terms = model, terms
        if terms.need(Needs.DRAWING) and not isinstance(model.renderer, RefiningRenderer):
            raise ValueError(
                f"the loss imitation needs a renderer that learns; this model has a {type(model.renderer).__name__}"
            )
        generator = model.generator
        if not generator.encodes_keyframes:
            raise TypeError(
                f"training needs latents of single frames; those of this {type(generator).__name__} "
                "depend on the frames before"
            )
        self.every = _knots_per_keyframe(generator.times())

    def clip(self, batch: Batch) -> ClipBatch:
        """The clips of a batch, with those knots at which the backbone makes keyframes."""
        return ClipBatch.of(batch, self.every)

    def true_keyframes(self, clip: ClipBatch) -> Keyframes:
        """Keyframes of the true frames at the knots."""
        known = clip.knots
        generator, latents = self.model.generator, self.encoded(clip)
        images = known if self._reads_pixels() else None
        prior = self.condition(clip, latents[:, 0], latents[:, -1]).prior if generator.gives_prior else None
        return Keyframes(latents, generator.times(latents.device), images=images, prior=prior)

    @torch.no_grad()
    def condition(
        self, clip: ClipBatch, latent0: Float[Tensor, "b c hz wz"], latent1: Float[Tensor, "b c hz wz"]
    ) -> Condition:
        """The generator's condition for the two end frames of a clip."""
        prior = None if clip.coarse is None else MotionPrior(clip.coarse)
        return self.model.generator.condition(clip.first, clip.last, latent0=latent0, latent1=latent1, prior=prior)

    def predicted_keyframes(self, clip: ClipBatch, moment: TrainingStep) -> Keyframes:
        """Keyframes generated from the two end frames and pure noise."""
        generator = self.model.generator
        condition = self.condition(clip, *self.encoded(clip, clip.ends).unbind(1))
        h, w = clip.frames.shape[-2:]
        noise = moment.normal(*generator.noise_shape(len(clip.frames), h, w)).to(condition.latent0)
        return self.with_images(generator.keyframes(condition, generator.sample(condition, noise)), clip)

    def with_images(self, made: Keyframes, clip: ClipBatch) -> Keyframes:
        """Picture too, where the trajectory reads them: the true ones at the ends."""
        if not self._reads_pixels():
            return made
        inner = made.latents[:, 1:-1]
        decoded = self.model.generator.decode(inner.flatten(0, 1)).unflatten(0, inner.shape[:2])
        ends = clip.first[:, None], clip.last[:, None]
        return replace(made, images=torch.cat((ends[0], decoded.to(ends[0]), ends[1]), dim=1))

    def _reads_pixels(self) -> bool:
        return self.model.trajectory.reads is Reads.PIXELS

    @torch.no_grad()
    def encoded(self, clip: ClipBatch, knots: slice = slice(None)) -> Float[Tensor, "b k c hz wz"]:
        """Latents of some knots."""
        if clip.latents is not None:
            return clip.latents[:, knots]
        self._check_size(clip)
        frames = clip.frames[:, : clip.fixed][:, knots]
        return self.model.generator.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def rendered(
        self, keyframes: Keyframes, trajectory: Trajectory, clip: ClipBatch, moment: TrainingStep
    ) -> tuple[FramePair, Drawing | None]:
        """Loss inputs of rendered frames: frames, and the maps that they are drawn with."""
        index = clip.free(moment.step)
        drawn, truth = render_free(self.model, keyframes, trajectory, clip, index), clip.frames[:, index]
        drawing = drawing_of(drawn, clip, index) if self.terms.need(Needs.DRAWING) else None
        return FramePair(drawn.frames, truth, self.model.generator.encode), drawing

    def pictures(self, batch: Batch, moment: TrainingStep) -> Picture | None:
        clip = self.clip({key: value[:2] for key, value in batch.items()})
        keyframes = self._shown(clip, moment)
        trajectory = self.model.trajectory(keyframes)
        index = clip.free(0)
        drawn = render_free(self.model, keyframes, trajectory, clip, index)
        return draw_sheet(self.model, clip, keyframes, trajectory, drawn, index)

    def _shown(self, clip: ClipBatch, moment: TrainingStep) -> Keyframes:
        return self.true_keyframes(clip)

    def _check_size(self, clip: ClipBatch) -> None:
        multiple = self.model.generator.size_multiple
        h, w = clip.frames.shape[-2:]
        if h % multiple or w % multiple:
            raise ValueError(
                f"the backbone takes frames whose sides are multiples of {multiple}; the clips are "
                f"{h} high and {w} wide"
            )


def _knots_per_keyframe(times: Float[Tensor, " k"]) -> int:
    """The spacing of a backbone's keyframes, in knots of the clips; raises ValueError if they fall between knots."""
    intervals, knots = len(times) - 1, KNOTS - 1
    if knots % intervals or not torch.allclose(times, torch.linspace(0, 1, len(times))):
        raise ValueError(
            f"clips have {KNOTS} evenly spaced knots; this backbone makes keyframes at "
            f"{[round(time, 4) for time in times.tolist()]}"
        )
    return knots // intervals


@runtime_checkable
class Fuses(Protocol):
    """A trajectory model whose two steps are supervised separately by exact flow."""

    def adjacent_flows(self, keyframes: Keyframes) -> Float[Tensor, "b2 s 2 hz wz"]:
        """Flow from each knot back to the one before, and the same played backwards: phi_1."""
        ...

    def residual_motion(
        self, keyframes: Keyframes, motion: StraightMotion, adjacent: Float[Tensor, "b2 s 2 hz wz"]
    ) -> Float[Tensor, "b2 k 2 hz wz"]:
        """The deviation that phi_2 adds to its initial flows at every knot."""
        ...


class Decoding(Reconstructing):
    """Train phi_1, phi_2 and phi_s, or some of them.

    Args:
        model: The whole model; what is not frozen is trained.
        terms: Losses on frames, fields, flow and adjacent flow.
        predicted: Keyframes are those that the generator predicts, not true ones.
    """

    def __init__(self, model: Interpolator, terms: Terms, *, predicted: bool = False) -> None:
        super().__init__(model, terms)
        self.predicted = predicted

    def forward(self, batch: Batch, moment: TrainingStep) -> Losses:
        clip = self.clip(batch)
        keyframes = self._keyframes(clip, moment)
        flow = adjacent = frames = drawing = None
        if clip.flows is not None and self.terms.need(Needs.FLOW, Needs.ADJACENT):
            flow, adjacent = self._supervised(keyframes, clip)
        if self.terms.need(Needs.FRAMES, Needs.DRAWING):
            trajectory = self.model.trajectory(keyframes)
            frames, drawing = self.rendered(keyframes, trajectory, clip, moment)
        evidence = Evidence(moment.progress, frames=frames, drawing=drawing, flow=flow, adjacent=adjacent)
        return self.terms(evidence)

    def _keyframes(self, clip: ClipBatch, moment: TrainingStep) -> Keyframes:
        with torch.no_grad():
            if self.predicted:
                return self.predicted_keyframes(clip, moment)
            truth = self.true_keyframes(clip)
            if clip.flows is not None and truth.prior is not None:
                prior = replace(truth.prior, residual_motion=partial_residual_motion(truth, clip, moment))
                return replace(truth, prior=prior)
        return truth

    def _supervised(self, keyframes: Keyframes, clip: ClipBatch) -> tuple[FlowPair, FlowPair | None]:
        """Flows to both ends, and adjacent ones, with the exact ones."""
        trajectory = self.model.trajectory
        exact, seen = clip.knot_flows()
        if not isinstance(trajectory, Fuses):
            found = trajectory(keyframes).at(keyframes.times)
            size = (exact.shape[-2], exact.shape[-1])
            both = torch.stack(found, dim=2)
            small = resize_flow(both.flatten(0, 2), size).unflatten(0, both.shape[:3])
            return FlowPair(small, exact, seen), None
        moved = trajectory.adjacent_flows(keyframes)
        adjacent = FlowPair(moved, *clip.adjacent_flows()) if self.terms.need(Needs.ADJACENT) else None
        # phi_2 learns to fuse what phi_1 says, not to change it: as in AccFlow, no gradient goes
        # back.
        start = straight_motion_of(keyframes, moved.detach())
        flows = start.flows + trajectory.residual_motion(keyframes, start, moved.detach())
        wanted = torch.cat((exact[:, :, 0], exact[:, :, 1].flip(1)))
        shown = torch.cat((seen[:, :, 0], seen[:, :, 1].flip(1)))
        return FlowPair(flows[:, 1:], wanted[:, 1:], shown[:, 1:]), adjacent

    def _shown(self, clip: ClipBatch, moment: TrainingStep) -> Keyframes:
        return self._keyframes(clip, moment)


class Autoencoding(Objective):
    """Train the autoencoder of the compact backbone by reconstruction."""

    def __init__(self, model: Interpolator, terms: Terms) -> None:
        super().__init__()
        self.autoencoder, self.terms = getattr(model.generator, "autoencoder"), terms  # noqa: B009

    def forward(self, batch: Batch, moment: TrainingStep) -> Losses:
        """The losses of a batch of pictures; ``size`` keeps latents from growing."""
        images = batch["frames"][:, 0]
        raw = self.autoencoder.encoder(images - 0.5)
        made = self.autoencoder.decoder(raw) + 0.5
        pair = FramePair(made, images, self.autoencoder.encode)
        found = self.terms(Evidence(moment.progress, frames=pair))
        return {**found, "size": 1e-3 * raw.float().square().mean()}

    def pictures(self, batch: Batch, moment: TrainingStep) -> Picture | None:
        images = batch["frames"][:6, 0]
        made = self.autoencoder.decoder(self.autoencoder.encoder(images - 0.5)) + 0.5
        rows = [torch.cat(tuple(row), dim=-1) for row in (images, made)]
        return to_pixels(torch.cat(rows, dim=-2).detach(), deep=False)


def partial_residual_motion(
    keyframes: Keyframes, clip: ClipBatch, moment: TrainingStep
) -> Float[Tensor, "b k 2 2 hz wz"]:
    """A random fraction, per sample, of the exact residual motion.

    So phi_2 meets residual motion of every quality, as a generator makes it.
    """
    exact, _ = clip.knot_flows()
    to_first, to_last = straight_motion_of(keyframes).straight.chunk(2)
    straight = torch.stack((to_first, to_last.flip(1)), dim=2)
    share = moment.uniform(exact.shape[0])
    residual = share[:, None, None, None, None, None] * (exact - straight)
    residual[:, 0], residual[:, -1] = 0.0, 0.0
    return residual
