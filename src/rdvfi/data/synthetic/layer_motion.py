"""Batched motion of layers: positions of points at any time, and the inverse.

A point of a layer is identified by its position ``p`` in the frame at time 0. Its position at time ``t`` is

    x(t) = J(t) M(t) (p + g(t) D(p))

with the path ``M`` and the wave ``g D`` of `rdvfi.data.synthetic.object_paths`. ``J`` is the path of the parent
layer: a forearm rotates about the elbow, in the coordinates of time 0, and then moves with the upper arm. The
inverse of a similarity has a closed form; that of the wave is computed by fixed-point iteration.

Paths are evaluated in float64 where the device has it, points in float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rdvfi.data.synthetic.object_paths import PATH_PARAMETERS, STEEPNESS, LayerPath, Wave

INVERSE_ITERATIONS = 12
"""Fixed-point iterations of the inverse wave; the relative error is 0.25^12 = 6e-8."""

Points = Float[Tensor, "n t 2 h w"]
Times = Float[Tensor, "n t"]
Similarities = Float[Tensor, "n t 4"]
"""``(a, b, x, y)`` maps a point ``(px, py)`` to ``(a px - b py + x, b px + a py + y)``."""


def similarities_at(paths: Float[Tensor, "n 9"], times: Times) -> Similarities:
    """`LayerPath.at` for a batch of rows of `LayerPath.parameters`, in the dtype of ``paths``."""
    cx, cy, angle, zoom, sx, sy, bx, by, acceleration = paths[:, :, None].unbind(1)
    t = times.to(paths)
    lift = t * (1.0 - t)
    u = t + acceleration * lift
    a = (zoom * u).exp() * (angle * u).cos()
    b = (zoom * u).exp() * (angle * u).sin()
    x = cx - a * cx + b * cy + sx * u + 4.0 * bx * lift
    y = cy - b * cx - a * cy + sy * u + 4.0 * by * lift
    return torch.stack((a, b, x, y), -1)


def compose(outer: Similarities, inner: Similarities) -> Similarities:
    """The similarity that applies ``inner``, then ``outer``."""
    a, b, x, y = outer.unbind(-1)
    c, d, px, py = inner.unbind(-1)
    return torch.stack((a * c - b * d, b * c + a * d, a * px - b * py + x, b * px + a * py + y), -1)


def invert(forward: Similarities) -> Similarities:
    """The inverse similarity."""
    a, b, x, y = forward.unbind(-1)
    norm = a * a + b * b
    c, d = a / norm, -b / norm
    return torch.stack((c, d, d * y - c * x, -d * x - c * y), -1)


def apply_similarity(similarity: Similarities, points: Points) -> Points:
    """Points mapped by the similarity of their scene and time, in the dtype of the points."""
    a, b, x, y = similarity.to(points)[..., None, None].unbind(2)
    px, py = points.unbind(2)
    return torch.stack((a * px - b * py + x, b * px + a * py + y), dim=2)


@dataclass(frozen=True, eq=False)
class LayerMotion:
    """Motion of one layer in each of ``n`` scenes; created by `of`.

    ``paths`` and ``joints`` are rows of `LayerPath.parameters`, of the layers and of their parents; ``modes`` and
    ``laws`` are `Wave.modes`, zero-padded, and `Wave.time_law`. ``wave_rows`` are the indices of layers with a wave.
    """

    paths: Float[Tensor, "n 9"]
    joints: Float[Tensor, "n 9"]
    modes: Float[Tensor, "n m 5"]
    laws: Float[Tensor, "n 4"]
    wave_rows: Int[Tensor, " k"]

    @classmethod
    def of(
        cls,
        paths: Sequence[LayerPath],
        joints: Sequence[LayerPath],
        waves: Sequence[Wave],
        device: torch.device | str = "cpu",
    ) -> "LayerMotion":
        """The motion of one layer in each of several scenes.

        Raises:
            ValueError: If a wave is steeper than `STEEPNESS` and could fold the layer.
        """
        steepest = max(wave.steepness() for wave in waves)
        if steepest > STEEPNESS * (1.0 + 1e-6):
            raise ValueError(f"a wave's steepness is {steepest:.3f}; at most {STEEPNESS} is allowed")
        target = torch.device(device)
        dtype = torch.float32 if target.type == "mps" else torch.float64
        mode_count = max(len(wave.modes) for wave in waves)
        modes = [wave.modes + ((0.0,) * 5,) * (mode_count - len(wave.modes)) for wave in waves]

        def table(rows: Sequence[Sequence[float]], width: int) -> Tensor:
            return torch.tensor(rows, dtype=dtype).view(len(rows), width).to(target)

        return cls(
            paths=table([path.parameters() for path in paths], PATH_PARAMETERS),
            joints=table([path.parameters() for path in joints], PATH_PARAMETERS),
            modes=torch.tensor(modes, dtype=torch.float32).view(len(waves), mode_count, 5).to(target),
            laws=table([wave.time_law() for wave in waves], 4),
            wave_rows=torch.tensor([i for i, wave in enumerate(waves) if wave.modes], dtype=torch.long).to(target),
        )

    def positions_at(self, points: Points, times: Times) -> Points:
        """Positions at ``times`` of points that are given by their positions at time 0."""
        if len(self.wave_rows):
            points = points.index_add(
                0, self.wave_rows, self._displacement(points[self.wave_rows], times[self.wave_rows])
            )
        return apply_similarity(self._similarities(times), points)

    def start_positions(self, positions: Points, times: Times) -> Points:
        """Positions at time 0 of points that are given by their ``positions`` at ``times``."""
        target = apply_similarity(invert(self._similarities(times)), positions)
        if not len(self.wave_rows):
            return target
        displaced = target[self.wave_rows]
        points = displaced
        for _ in range(INVERSE_ITERATIONS):
            points = displaced - self._displacement(points, times[self.wave_rows])
        return target.index_copy(0, self.wave_rows, points)

    def _similarities(self, times: Times) -> Similarities:
        return compose(similarities_at(self.joints, times), similarities_at(self.paths, times))

    def _displacement(self, points: Points, times: Times) -> Points:
        """``g(t) D(p)``: points and times of the layers that have a wave."""
        c, s, rate, phase = self.laws[self.wave_rows][:, :, None].unbind(1)
        t = times.to(self.laws)
        law = c * t + s * ((rate * t + phase).sin() - phase.sin())
        modes = self.modes[self.wave_rows].to(points)[..., None, None, None]
        total = torch.zeros_like(points)
        for m in range(modes.shape[1]):
            ax, ay, kx, ky, phi = modes[:, m].unbind(1)
            wave = (kx * points[:, :, 0] + ky * points[:, :, 1] + phi).sin()
            total += torch.stack((ax * wave, ay * wave), dim=2)
        return total * law.to(points)[:, :, None, None, None]
