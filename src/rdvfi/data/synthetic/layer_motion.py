"""Motion of many layers in one batch: positions of points at a time, and their origins.

A point of a layer is named by its place ``p`` in the frame at time 0. At time ``t`` it is at

    x(t) = J(t) M(t) (p + g(t) D(p))

with the path ``M`` and the wave ``g D`` of `rdvfi.data.synthetic.object_paths`; ``J`` is the path of what the
layer hangs on: a forearm turns about the elbow, in the coordinates of time 0, and is then carried by
the upper arm. The inverse of a similarity is closed; that of the wave is found by iteration.

Paths are evaluated in float64 where the device has it, points in float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rdvfi.data.synthetic.object_paths import PATH_NUMBERS, STEEPNESS, LayerPath, Wave

INVERSE_STEPS = 12
"""Iterations of the inverse: what is left is 0.25^12, 6e-8, of the wave's height."""

Points = Float[Tensor, "n t 2 h w"]
Times = Float[Tensor, "n t"]
Similarities = Float[Tensor, "n t 4"]
"""``(a, b, x, y)``: points ``(px, py)`` go to ``(a px - b py + x, b px + a py + y)``."""


def similarities(paths: Float[Tensor, "n 9"], times: Times) -> Similarities:
    """`LayerPath.at` for a batch, from the rows of `LayerPath.row`; in the type of ``paths``."""
    cx, cy, angle, zoom, sx, sy, bx, by, acceleration = paths[:, :, None].unbind(1)
    t = times.to(paths)
    lift = t * (1.0 - t)
    u = t + acceleration * lift
    a = (zoom * u).exp() * (angle * u).cos()
    b = (zoom * u).exp() * (angle * u).sin()
    x = cx - a * cx + b * cy + sx * u + 4.0 * bx * lift
    y = cy - b * cx - a * cy + sy * u + 4.0 * by * lift
    return torch.stack((a, b, x, y), -1)


def composed(outer: Similarities, inner: Similarities) -> Similarities:
    """First ``inner``, then ``outer``."""
    a, b, x, y = outer.unbind(-1)
    c, d, px, py = inner.unbind(-1)
    return torch.stack((a * c - b * d, b * c + a * d, a * px - b * py + x, b * px + a * py + y), -1)


def inverse(forward: Similarities) -> Similarities:
    """The inverse similarity."""
    a, b, x, y = forward.unbind(-1)
    norm = a * a + b * b
    c, d = a / norm, -b / norm
    return torch.stack((c, d, d * y - c * x, -d * x - c * y), -1)


def applied(similarity: Similarities, points: Points) -> Points:
    """Points moved by the similarity of their scene and time, in their own type."""
    a, b, x, y = similarity.to(points)[..., None, None].unbind(2)
    px, py = points.unbind(2)
    return torch.stack((a * px - b * py + x, b * px + a * py + y), dim=2)


@dataclass(frozen=True, eq=False)
class LayerMotion:
    """Where the points of one layer of ``n`` scenes are, at any times; made by `of`.

    Attributes:
        paths: Rows of `LayerPath.row`.
        joints: The same of what the layers hang on.
        modes: Rows of `Wave.modes`, padded by zeros to one number.
        laws: Rows of `Wave.law`.
        bent: Numbers of the layers that have a wave.
    """

    paths: Float[Tensor, "n 9"]
    joints: Float[Tensor, "n 9"]
    modes: Float[Tensor, "n m 5"]
    laws: Float[Tensor, "n 4"]
    bent: Int[Tensor, " k"]

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
            ValueError: If a wave is so steep that it could fold the layer.
        """
        steepest = max(wave.steepness() for wave in waves)
        if steepest > STEEPNESS * (1.0 + 1e-6):
            raise ValueError(f"a wave's steepness is {steepest:.3f}; at most {STEEPNESS} is allowed")
        place = torch.device(device)
        precise = torch.float32 if place.type == "mps" else torch.float64
        most = max(len(wave.modes) for wave in waves)
        modes = [wave.modes + ((0.0,) * 5,) * (most - len(wave.modes)) for wave in waves]

        def table(rows: Sequence[Sequence[float]], width: int) -> Tensor:
            return torch.tensor(rows, dtype=precise).view(len(rows), width).to(place)

        return cls(
            paths=table([path.row() for path in paths], PATH_NUMBERS),
            joints=table([path.row() for path in joints], PATH_NUMBERS),
            modes=torch.tensor(modes, dtype=torch.float32).view(len(waves), most, 5).to(place),
            laws=table([wave.law() for wave in waves], 4),
            bent=torch.tensor([i for i, wave in enumerate(waves) if wave.modes], dtype=torch.long).to(place),
        )

    def place(self, points: Points, times: Times) -> Points:
        """Positions at ``times`` of points that are named by their place at time 0."""
        if len(self.bent):
            points = points.index_add(0, self.bent, self._displacement(points[self.bent], times[self.bent]))
        return applied(self._similarities(times), points)

    def origin(self, positions: Points, times: Times) -> Points:
        """Places at time 0 of the points that are at ``positions`` at ``times``."""
        target = applied(inverse(self._similarities(times)), positions)
        if not len(self.bent):
            return target
        bent = target[self.bent]
        points = bent
        for _ in range(INVERSE_STEPS):
            points = bent - self._displacement(points, times[self.bent])
        return target.index_copy(0, self.bent, points)

    def _similarities(self, times: Times) -> Similarities:
        return composed(similarities(self.joints, times), similarities(self.paths, times))

    def _displacement(self, points: Points, times: Times) -> Points:
        """``g(t) D(p)``: points and times of the layers that have a wave."""
        c, s, rate, phase = self.laws[self.bent][:, :, None].unbind(1)
        t = times.to(self.laws)
        law = c * t + s * ((rate * t + phase).sin() - phase.sin())
        modes = self.modes[self.bent].to(points)[..., None, None, None]
        total = torch.zeros_like(points)
        for m in range(modes.shape[1]):
            ax, ay, kx, ky, phi = modes[:, m].unbind(1)
            wave = (kx * points[:, :, 0] + ky * points[:, :, 1] + phi).sin()
            total += torch.stack((ax * wave, ay * wave), dim=2)
        return total * law.to(points)[:, :, None, None, None]
