"""Training of motion and synthesis (the paper's first stage), and of the autoencoder.

phi_1, phi_2 and phi_s learn to render frames at free times from true latents of the knots; the backbone and its
autoencoder are frozen. In addition to the paper's reconstruction loss, the motion can be supervised by exact flow
of procedural scenes, since with small budgets photometric losses hardly improve it. Stage 3 is the same with
keyframes that the generator predicts, as in inference.
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
from rdvfi.training.losses.evidence import Evidence, FlowPair, FramePair, MapSupervision, Needs, WeightedLosses
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.training.objectives.objective import Batch, Losses, Objective
from rdvfi.training.objectives.rendering import render_free_frame, supervise_maps
from rdvfi.training.objectives.training_step import TrainingStep
from rdvfi.training.sample_sheet import draw_sheet


class ReconstructionObjective(Objective):
    """Base of the decoding and diffusion objectives: keyframes of true frames, and frames from keyframes."""

    def __init__(self, model: Interpolator, losses: WeightedLosses) -> None:
        super().__init__()
        self.model, self.losses = model, losses
        if losses.needs_any(Needs.MAPS) and not isinstance(model.renderer, RefiningRenderer):
            raise ValueError(
                f"the loss imitation needs a renderer that learns; this model has a {type(model.renderer).__name__}"
            )
        generator = model.generator
        if not generator.encodes_keyframes:
            raise TypeError(
                f"training needs latents of single frames; those of this {type(generator).__name__} "
                "depend on the frames before"
            )
        self.knot_stride = _knots_per_keyframe(generator.times())

    def read_clip(self, batch: Batch) -> ClipBatch:
        """The clips of a batch, reduced to the knots of the backbone's keyframes."""
        return ClipBatch.of(batch, self.knot_stride)

    def true_keyframes(self, clip: ClipBatch) -> Keyframes:
        """Keyframes of the true frames at the knots."""
        frames = clip.knot_frames
        generator, latents = self.model.generator, self.encode_fixed(clip)
        images = frames if self._reads_pixels() else None
        prior = self.condition(clip, latents[:, 0], latents[:, -1]).prior if generator.gives_prior else None
        return Keyframes(latents, generator.times(latents.device), images=images, prior=prior)

    @torch.no_grad()
    def condition(
        self, clip: ClipBatch, latent0: Float[Tensor, "b c hz wz"], latent1: Float[Tensor, "b c hz wz"]
    ) -> Condition:
        """The generator's condition for the two end frames of a clip."""
        prior = None if clip.coarse is None else MotionPrior(clip.coarse)
        return self.model.generator.condition(clip.first, clip.last, latent0=latent0, latent1=latent1, prior=prior)

    def predicted_keyframes(self, clip: ClipBatch, step: TrainingStep) -> Keyframes:
        """Keyframes generated from the two end frames and pure noise."""
        generator = self.model.generator
        condition = self.condition(clip, *self.encode_fixed(clip, slice(None, None, clip.fixed - 1)).unbind(1))
        h, w = clip.frames.shape[-2:]
        noise = step.normal(*generator.noise_shape(len(clip.frames), h, w)).to(condition.latent0)
        return self.add_images(generator.keyframes(condition, generator.sample(condition, noise)), clip)

    def add_images(self, keyframes: Keyframes, clip: ClipBatch) -> Keyframes:
        """Add decoded images if the trajectory model reads pixels; those at the ends are the true frames."""
        if not self._reads_pixels():
            return keyframes
        inner = keyframes.latents[:, 1:-1]
        decoded = self.model.generator.decode(inner.flatten(0, 1)).unflatten(0, inner.shape[:2])
        first, last = clip.first[:, None], clip.last[:, None]
        return replace(keyframes, images=torch.cat((first, decoded.to(first), last), dim=1))

    def _reads_pixels(self) -> bool:
        return self.model.trajectory.reads is Reads.PIXELS

    @torch.no_grad()
    def encode_fixed(self, clip: ClipBatch, selection: slice = slice(None)) -> Float[Tensor, "b k c hz wz"]:
        """Latents of the selected fixed frames."""
        if clip.latents is not None:
            return clip.latents[:, selection]
        self._check_size(clip)
        frames = clip.frames[:, : clip.fixed][:, selection]
        return self.model.generator.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def render_frames(
        self, keyframes: Keyframes, trajectory: Trajectory, clip: ClipBatch, step: TrainingStep
    ) -> tuple[FramePair, MapSupervision | None]:
        """Loss inputs of a free frame: the rendered and the true one, and the maps with which it was rendered."""
        index = clip.free_index(step.index)
        rendered = render_free_frame(self.model, keyframes, trajectory, clip, index)
        maps = supervise_maps(rendered, clip, index) if self.losses.needs_any(Needs.MAPS) else None
        return FramePair(rendered.frames, clip.frames[:, index], self.model.generator.encode), maps

    def draw_sheet(self, batch: Batch, step: TrainingStep) -> Picture | None:
        clip = self.read_clip({key: value[:2] for key, value in batch.items()})
        keyframes = self._sheet_keyframes(clip, step)
        trajectory = self.model.trajectory(keyframes)
        index = clip.free_index(0)
        rendered = render_free_frame(self.model, keyframes, trajectory, clip, index)
        return draw_sheet(self.model, clip, keyframes, trajectory, rendered, index)

    def _sheet_keyframes(self, clip: ClipBatch, step: TrainingStep) -> Keyframes:
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
    """The distance of a backbone's keyframes, in knots of the clips; raises ValueError if they fall between knots."""
    intervals, knots = len(times) - 1, KNOTS - 1
    if knots % intervals or not torch.allclose(times, torch.linspace(0, 1, len(times))):
        raise ValueError(
            f"clips have {KNOTS} evenly spaced knots; this backbone makes keyframes at "
            f"{[round(time, 4) for time in times.tolist()]}"
        )
    return knots // intervals


@runtime_checkable
class FusesAdjacentFlows(Protocol):
    """A trajectory model whose two networks, phi_1 and phi_2, are supervised separately by exact flow."""

    def adjacent_flows(self, keyframes: Keyframes) -> Float[Tensor, "b2 s 2 hz wz"]:
        """Output of phi_1: flow from each knot to the previous one, and the same for reversed time."""
        ...

    def residual_motion(
        self, keyframes: Keyframes, motion: StraightMotion, adjacent: Float[Tensor, "b2 s 2 hz wz"]
    ) -> Float[Tensor, "b2 k 2 hz wz"]:
        """Output of phi_2: the deviation from the initial flows at every knot."""
        ...


class DecodingObjective(ReconstructionObjective):
    """Train phi_1, phi_2 and phi_s, or some of them.

    Args:
        model: The whole model; parameters that are not frozen are trained.
        losses: Losses on frames, maps, flow and adjacent flow.
        predicted: Use keyframes that the generator predicts, not true ones.
    """

    def __init__(self, model: Interpolator, losses: WeightedLosses, *, predicted: bool = False) -> None:
        super().__init__(model, losses)
        self.predicted = predicted

    def forward(self, batch: Batch, step: TrainingStep) -> Losses:
        clip = self.read_clip(batch)
        keyframes = self._keyframes(clip, step)
        flow = adjacent = frames = maps = None
        if clip.flows is not None and self.losses.needs_any(Needs.FLOW, Needs.ADJACENT):
            flow, adjacent = self._flow_pairs(keyframes, clip)
        if self.losses.needs_any(Needs.FRAMES, Needs.MAPS):
            trajectory = self.model.trajectory(keyframes)
            frames, maps = self.render_frames(keyframes, trajectory, clip, step)
        evidence = Evidence(step.progress, frames=frames, maps=maps, flow=flow, adjacent=adjacent)
        return self.losses(evidence)

    def _keyframes(self, clip: ClipBatch, step: TrainingStep) -> Keyframes:
        with torch.no_grad():
            if self.predicted:
                return self.predicted_keyframes(clip, step)
            keyframes = self.true_keyframes(clip)
            if clip.flows is not None and keyframes.prior is not None:
                prior = replace(keyframes.prior, residual_motion=partial_residual_motion(keyframes, clip, step))
                return replace(keyframes, prior=prior)
        return keyframes

    def _flow_pairs(self, keyframes: Keyframes, clip: ClipBatch) -> tuple[FlowPair, FlowPair | None]:
        """Flows from the knots to both ends, and between adjacent knots, with the exact ones."""
        trajectory = self.model.trajectory
        exact, visible = clip.knot_flows()
        if not isinstance(trajectory, FusesAdjacentFlows):
            both = torch.stack(trajectory(keyframes).at(keyframes.times), dim=2)
            size = (exact.shape[-2], exact.shape[-1])
            resized = resize_flow(both.flatten(0, 2), size).unflatten(0, both.shape[:3])
            return FlowPair(resized, exact, visible), None
        adjacent = trajectory.adjacent_flows(keyframes)
        needs_adjacent = self.losses.needs_any(Needs.ADJACENT)
        adjacent_pair = FlowPair(adjacent, *clip.adjacent_flows()) if needs_adjacent else None
        # As in AccFlow, the loss of phi_2 has no gradient for phi_1.
        initial = straight_motion_of(keyframes, adjacent.detach())
        flows = initial.flows + trajectory.residual_motion(keyframes, initial, adjacent.detach())
        exact = torch.cat((exact[:, :, 0], exact[:, :, 1].flip(1)))
        visible = torch.cat((visible[:, :, 0], visible[:, :, 1].flip(1)))
        return FlowPair(flows[:, 1:], exact[:, 1:], visible[:, 1:]), adjacent_pair

    def _sheet_keyframes(self, clip: ClipBatch, step: TrainingStep) -> Keyframes:
        return self._keyframes(clip, step)


class AutoencoderObjective(Objective):
    """Train the autoencoder of the compact backbone by reconstruction."""

    def __init__(self, model: Interpolator, losses: WeightedLosses) -> None:
        super().__init__()
        self.autoencoder, self.losses = getattr(model.generator, "autoencoder"), losses  # noqa: B009

    def forward(self, batch: Batch, step: TrainingStep) -> Losses:
        """The losses of a batch of pictures; ``size`` regularises the magnitude of the latents."""
        images = batch["frames"][:, 0]
        latents = self.autoencoder.encoder(images - 0.5)
        pair = FramePair(self.autoencoder.decoder(latents) + 0.5, images, self.autoencoder.encode)
        losses = self.losses(Evidence(step.progress, frames=pair))
        return {**losses, "size": 1e-3 * latents.float().square().mean()}

    def draw_sheet(self, batch: Batch, step: TrainingStep) -> Picture | None:
        images = batch["frames"][:6, 0]
        reconstructions = self.autoencoder.decoder(self.autoencoder.encoder(images - 0.5)) + 0.5
        rows = [torch.cat(tuple(row), dim=-1) for row in (images, reconstructions)]
        return to_pixels(torch.cat(rows, dim=-2).detach(), deep=False)


def partial_residual_motion(
    keyframes: Keyframes, clip: ClipBatch, step: TrainingStep
) -> Float[Tensor, "b k 2 2 hz wz"]:
    """A random fraction, per sample, of the exact residual motion.

    phi_2 is thereby trained on residual motion of any accuracy, as generators predict it.
    """
    exact, _ = clip.knot_flows()
    to_first, to_last = straight_motion_of(keyframes).straight.chunk(2)
    straight = torch.stack((to_first, to_last.flip(1)), dim=2)
    fraction = step.uniform(exact.shape[0])
    residual = fraction[:, None, None, None, None, None] * (exact - straight)
    residual[:, 0], residual[:, -1] = 0.0, 0.0
    return residual
