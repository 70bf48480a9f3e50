"""Procedural scenes without host syncs: `rdvfi.data.synthetic.moving` / `pairs.scene_pairs`, in two halves.

`prepare` (numpy, in a worker process) draws the project's own `ScenePlan`s and turns them into ONE
flat float32 vector and a table of where each part lies. `Painter` (torch, on the GPU) copies that
vector once, from pinned memory and without waiting, and draws frames, exact flows and visibility.
The numbers are those of `rdvfi.data.synthetic.moving.MovingTextures` and `rdvfi.data.pair_pool.scene_pairs` (see
`check_against_project`), where every layer copies a dozen small tensors and works waves out in
Python, sample by sample, some twenty times a batch.
"""

from dataclasses import replace
from math import floor, log2

import numpy as np
import torch
import torch.nn.functional as F
from rdvfi.data.synthetic.moving import KNOTS
from rdvfi.data.synthetic.procedural import Path

from rdvfi.data.synthetic.object_paths import Wave, matrices
from rdvfi.data.synthetic.sampler import MARGIN, Draw, Recipe, texture_side
from rdvfi.data.synthetic.small_objects import draw_scene
from rdvfi.data.synthetic.textures import REDUCTION, Pictures, _grid, _mesh

INVERSE_STEPS = 8
"""Of waves; what is left is 0.25^8, 1.5e-5, of a wave's height."""
MODES, SWINGS = 3, 4
SMOOTH = 4


def _span(rng, near: float) -> tuple[float, float]:
    """Start and end of what is shown of a scene; often a small part, so that motion is small."""
    if rng.random() < near:
        length = float(np.exp(rng.uniform(np.log(1.0 / 50.0), np.log(0.5))))
        start = rng.uniform(0.0, 1.0 - length)
        return start, start + length
    start = rng.uniform(0.0, 0.6) if rng.random() < 0.3 else 0.0
    return start, 1.0


def _varied(rng, plan):
    """Grounds that do not move at all, and capsules as thin as wires."""
    layers = list(plan.layers)
    if rng.random() < 0.35:
        layers[0] = replace(layers[0], path=Path(), wave=Wave())
    for i, layer in enumerate(layers[1:], 1):
        if layer is not None and layer.matte.axis != (0.0, 0.0) and rng.random() < 0.35:
            layers[i] = replace(layer, matte=replace(layer.matte, radius=rng.uniform(0.7, 2.5)))
    light = 2.5 if rng.random() < 0.2 else 1.0
    return replace(plan, layers=tuple(layers), slope=tuple(light * s for s in plan.slope))


def prepare(job: dict) -> tuple[np.ndarray, dict]:
    """Plans of some scenes, as a flat vector and its table.

    job: seed, numbers (range), size (h, w), recipe (dict), pictures (count), picture_size,
    levels (of the pyramid), kind ('pairs' or 'knots').
    """
    size, count = job["size"], len(job["numbers"])
    recipe = Recipe(**job["recipe"])
    rngs = [np.random.default_rng([job["seed"], number]) for number in job["numbers"]]
    plans = [_varied(rng, draw_scene(Draw(rng, size, job["pictures"], recipe))) for rng in rngs]
    spans = torch.tensor([_span(rng, job.get("near", 0.5)) for rng in rngs], dtype=torch.float32)
    if job["kind"] == "pairs":
        times = spans
    else:
        shares = torch.cat((torch.linspace(0.0, 1.0, KNOTS), torch.tensor(job["free"])))
        times = spans[:, :1] + (spans[:, 1:] - spans[:, :1]) * shares
    moments = times.double().tolist()
    parts: dict[str, np.ndarray] = {
        "times": times.numpy(),
        "slope": np.array([plan.slope for plan in plans]),
        "curve": np.array([plan.curve for plan in plans]),
    }
    slots = []
    for slot in range(max(len(plan.layers) for plan in plans)):
        own = {r: p.layers[slot] for r, p in enumerate(plans) if slot < len(p.layers)}
        own = {r: layer for r, layer in own.items() if layer is not None}
        if not own:
            continue
        layers, rows, name = list(own.values()), list(own), f"{slot}."
        if slot == 0:
            margin = int(MARGIN * max(size))
            shape = (size[0] + 2 * margin, size[1] + 2 * margin)
        else:
            shape = (texture_side(size),) * 2
        cuts = [layer.cut for layer in layers]
        ph, pw = job["picture_size"]
        limit = min(ph / shape[0], pw / shape[1])
        least, most = min(1.0, limit), min(limit, REDUCTION)
        factors = [least * (most / least) ** cut.reduction for cut in cuts]
        level = [min(max(0, floor(log2(f))), job["levels"] - 1) for f in factors]
        parts[name + "rows"] = np.array(rows)
        parts[name + "edges"] = np.stack([_grid(c, f, shape, (ph, pw)) for c, f in zip(cuts, factors, strict=True)])
        for k in sorted(set(level)):
            parts[f"{name}level{k}"] = np.array([i for i, v in enumerate(level) if v == k])
            parts[f"{name}picture{k}"] = np.array([c.picture for c, v in zip(cuts, level, strict=True) if v == k])
        parts[name + "gain"] = np.array([(*c.gain, c.gamma) for c in cuts])
        plain = [(i, c.plain) for i, c in enumerate(cuts) if c.plain is not None]
        if plain:
            parts[name + "plain"] = np.array([i for i, _ in plain])
            parts[name + "look"] = np.array(
                [(p.contrast, p.smooth, p.colour is not None, *(p.colour or (0.0,) * 3)) for _, p in plain]
            )
        if slot:
            mattes = [layer.matte for layer in layers]
            parts[name + "matte"] = np.array([(m.radius, m.limit, *m.axis) for m in mattes])
            still = ((0.0, 0.0, 0.0),)
            parts[name + "swings"] = np.array([(tuple(m.waves) + still * SWINGS)[:SWINGS] for m in mattes])
        half = np.array([(shape[1] - 1) / 2.0, (shape[0] - 1) / 2.0])
        parts[name + "corner"] = np.array([layer.centre for layer in layers]) - half
        place = matrices([x.joint for x in layers], times[rows]) @ matrices([x.path for x in layers], times[rows])
        parts[name + "place"] = place[..., :2, :].numpy()
        parts[name + "origin"] = torch.linalg.inv(place)[..., :2, :].numpy()
        bent = [i for i, layer in enumerate(layers) if layer.wave.modes]
        if bent:
            none = ((0.0,) * 5,)
            parts[name + "bent"] = np.array(bent)
            parts[name + "modes"] = np.array([(tuple(layers[i].wave.modes) + none * MODES)[:MODES] for i in bent])
            parts[name + "law"] = np.array([[layers[i].wave.at(t) for t in moments[rows[i]]] for i in bent])
        slots.append((slot, shape))
    table, flat, start = {}, [], 0
    for key, value in parts.items():
        one = np.ascontiguousarray(value, np.float32)
        table[key] = (start, one.shape)
        flat.append(one.ravel())
        start += one.size
    kind = {"size": size, "slots": slots, "parts": table, "count": count, "job": job["kind"]}
    return np.concatenate(flat), kind


class _Layer:
    """One slot of the scenes of a batch that have it, on the device."""

    def __init__(self, get, slot: int, shape: tuple[int, int], pictures: Pictures) -> None:
        n = f"{slot}."
        self.slot = slot
        self.rows = get(n + "rows").long()
        self.texture = self._texture(get, n, slot, shape, pictures)
        self.corner = get(n + "corner")
        self.place_matrix, self.origin_matrix = get(n + "place"), get(n + "origin")
        bent = get(n + "bent")
        self.bent = None if bent is None else bent.long()
        if bent is not None:
            self.modes, self.law = get(n + "modes"), get(n + "law")

    @staticmethod
    def _texture(get, n, slot, shape, pictures):
        h, w = shape
        edges = get(n + "edges")
        made = edges.new_empty(len(edges), 3, h, w)
        for k, level in enumerate(pictures.levels):
            rows = get(f"{n}level{k}")
            if rows is None:
                continue
            rows = rows.long()
            source = level[get(f"{n}picture{k}").long()].float() / 255.0
            fine = F.grid_sample(source, _mesh(edges[rows], shape), padding_mode="reflection", align_corners=False)
            made.index_copy_(0, rows, F.avg_pool2d(fine, 2))
        gain, gamma = get(n + "gain")[:, :, None, None].split((3, 1), dim=1)
        made = (made.clamp_min(1e-4) ** gamma * gain).clamp(0.0, 1.0)
        which = get(n + "plain")
        if which is not None:
            which, look = which.long(), get(n + "look")[:, :, None, None]
            contrast, smooth, coloured, colour = look.split((1, 1, 1, 3), dim=1)
            seen = made[which]
            wide = F.interpolate(F.avg_pool2d(seen, SMOOTH), (h, w), mode="bilinear")
            seen = torch.where(smooth > 0.5, wide, seen)
            mean = seen.mean((2, 3), keepdim=True)
            middle = torch.where(coloured > 0.5, colour, mean)
            made.index_copy_(0, which, (middle + contrast * (seen - mean)).clamp(0.0, 1.0))
        if slot == 0:
            return torch.cat((made, torch.ones_like(made[:, :1])), dim=1)
        return torch.cat((made, _matte(get(n + "matte"), get(n + "swings"), h)), dim=1)

    def origin(self, grid):
        """Places at time 0, (n, t, 2, h, w), of the points of a grid (2, h, w) at all times."""
        target = _apply(self.origin_matrix, grid[None, None])
        if self.bent is None:
            return target
        own = target[self.bent]
        points = own
        for _ in range(INVERSE_STEPS):
            points = own - self._bend(points, self.law)
        return target.index_copy(0, self.bent, points)

    def place(self, points, to):
        """Positions at the times ``to`` (t,), of points named by their place at time 0."""
        if self.bent is not None:
            bent = points[self.bent] + self._bend(points[self.bent], self.law[:, to])
            points = points.index_copy(0, self.bent, bent)
        return _apply(self.place_matrix[:, to], points)

    def _bend(self, points, law):
        ax, ay, kx, ky, phi = self.modes[..., None, None, None].unbind(2)  # (n, m, 1, 1, 1)
        x, y = points[:, None, :, 0], points[:, None, :, 1]
        wave = torch.addcmul(kx * x + phi, ky, y).sin()
        total = torch.stack(((ax * wave).sum(1), (ay * wave).sum(1)), dim=2)
        return total * law[:, :, None, None, None]

    def sample(self, points, padding):
        """Colour and matte, (n, t, 4, h, w), at places of time 0."""
        b, t, _, h, w = points.shape
        points = points - self.corner[:, None, :, None, None]
        th, tw = self.texture.shape[-2:]
        x = (2.0 * points[:, :, 0] + 1.0) / tw - 1.0
        y = (2.0 * points[:, :, 1] + 1.0) / th - 1.0
        where = torch.stack((x, y), dim=-1).reshape(b, t * h, w, 2)
        drawn = F.grid_sample(self.texture, where, padding_mode=padding, align_corners=False)
        return drawn.unflatten(2, (t, h)).transpose(1, 2)


def _apply(matrix, points):
    m = matrix[..., None, None]
    x, y = points[:, :, 0], points[:, :, 1]
    return torch.stack(
        (
            m[:, :, 0, 0] * x + m[:, :, 0, 1] * y + m[:, :, 0, 2],
            m[:, :, 1, 0] * x + m[:, :, 1, 1] * y + m[:, :, 1, 2],
        ),
        dim=2,
    )


def _matte(shapes, swings, side):
    line = torch.arange(side, device=shapes.device) - (side - 1) / 2.0
    x, y = line.expand(side, side), line[:, None].expand(side, side)
    k, height, phase = swings[..., None, None].unbind(2)
    swing = (height * (k * torch.atan2(y, x) + phase).cos()).sum(1)
    radius, limit, ax, ay = shapes[:, :, None, None].unbind(1)
    share = ((x * ax + y * ay) / (ax.square() + ay.square()).clamp_min(1e-6)).clamp(-1.0, 1.0)
    distance = torch.hypot(x - share * ax, y - share * ay)
    reach = torch.minimum(radius * (1.0 + swing), limit)
    matte = (reach - distance + 0.5).clamp(0.0, 1.0)
    return F.pad(matte[:, None, 1:-1, 1:-1], (1, 1, 1, 1))


class Painter:
    """Draws what `prepare` planned, on the device of the pictures."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures, self.device = pictures, pictures.device
        self._indices: dict[tuple[int, ...], torch.Tensor] = {}

    def _index(self, numbers: tuple[int, ...]) -> torch.Tensor:
        """On the device; copied once, for a copy waits."""
        if numbers not in self._indices:
            self._indices[numbers] = torch.tensor(numbers, device=self.device)
        return self._indices[numbers]

    @torch.no_grad()
    def paint(self, flat: np.ndarray, table: dict, *, strides=(8,)) -> dict:
        """frames (b, t, 3, h, w) in [0, 1]; times; per stride flows and visibility.

        'pairs': flows_S (b, 2, 2, hs, ws) and visible_S (b, 2, hs, ws), from each to the other.
        'knots': flows (b, 9, 2, 2, h/8, w/8) to the first and the last, full-size pixels; visible.
        """
        vector = torch.from_numpy(flat)
        if self.device.type == "cuda":
            vector = vector.pin_memory().to(self.device, non_blocking=True)

        def get(name):
            if name not in table["parts"]:
                return None
            start, shape = table["parts"][name]
            return vector[start : start + int(np.prod(shape))].view(*shape)

        size, b = table["size"], table["count"]
        layers = [_Layer(get, slot, shape, self.pictures) for slot, shape in table["slots"]]
        times = get("times")
        t = times.shape[1]
        frames, labels = self._frames(layers, size, b, t)
        frames = (frames * _gain(get("slope"), get("curve"), times, size)[:, :, None]).clamp(0, 1)
        found = {"frames": frames, "times": times}
        if table["job"] == "pairs":
            to = [[1], [0]]
            for stride in strides:
                flows, seen = self._flows(layers, size, b, t, to, labels, stride)
                found[f"flows_{stride}"] = flows[:, :, 0]
                found[f"visible_{stride}"] = seen[:, :, 0].float()
            found["exact"] = torch.ones(b, device=self.device)
        else:
            to = [[0, KNOTS - 1]] * t
            found["flows"], seen = self._flows(layers, size, b, t, to, labels, strides[0])
            found["visible"] = seen.float()
        return found

    def _grid(self, size, stride):
        ys, xs = ((torch.arange(n // stride, device=self.device) + 0.5) * stride - 0.5 for n in size)
        return torch.stack((xs.expand(len(ys), -1), ys[:, None].expand(-1, len(xs))))

    def _frames(self, layers, size, b, t):
        grid = self._grid(size, 1)
        back = layers[0]
        frame = back.sample(back.origin(grid), "reflection")[:, :, :3].contiguous()
        labels = torch.zeros(b, t, *size, dtype=torch.uint8, device=self.device)
        for layer in layers[1:]:
            colour, matte = layer.sample(layer.origin(grid), "border").split((3, 1), dim=2)
            rows = layer.rows
            frame.index_copy_(0, rows, torch.lerp(frame[rows], colour, matte))
            on = matte[:, :, 0] > 0.5
            labels.index_copy_(0, rows, labels[rows].masked_fill(on, layer.slot))
        return frame, labels

    def _flows(self, layers, size, b, t, to, labels, stride):
        h, w = size
        grid = self._grid(size, stride)
        hs, ws = grid.shape[-2:]
        top = torch.zeros(b, t, hs, ws, dtype=torch.uint8, device=self.device)
        points = []
        for layer in layers:
            points.append(layer.origin(grid))
            if layer.slot:
                on = layer.sample(points[-1], "border")[:, :, 3] > 0.5
                top.index_copy_(0, layer.rows, top[layer.rows].masked_fill(on, layer.slot))
        ways = len(to[0])
        flows = grid.new_zeros(b, t, ways, 2, hs, ws)
        for layer, origin in zip(layers, points, strict=True):
            rows = layer.rows
            on = (top[rows] == layer.slot)[:, :, None]
            own = flows[rows]
            for n in range(ways):
                index = self._index(tuple(row[n] for row in to))
                shift = layer.place(origin, index) - grid
                own[:, :, n] = torch.where(on, shift, own[:, :, n])
            flows.index_copy_(0, rows, own)
        for i, row in enumerate(to):
            for n, j in enumerate(row):
                if i == j:
                    flows[:, i, n] = 0.0
        landing = (grid + flows).round().long()
        x, y = landing.unbind(3)
        inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
        place = (y.clamp(0, h - 1) * w + x.clamp(0, w - 1)).flatten(3)
        found = torch.empty_like(place, dtype=torch.uint8)
        for i, row in enumerate(to):
            for n, j in enumerate(row):
                found[:, i, n] = labels[:, j].flatten(1).gather(1, place[:, i, n])
        return flows, inside & (found.view_as(x) == top[:, :, None])


def _gain(slope, curve, times, size):
    h, w = size
    y = ((torch.arange(h, device=times.device) + 0.5) * (2.0 / h) - 1.0)[:, None]
    x = (torch.arange(w, device=times.device) + 0.5) * (2.0 / w) - 1.0
    level, across, down = slope[:, :, None, None].unbind(1)
    law = times - 0.5 + curve[:, None] * (4.0 * times * (1.0 - times) - 0.5)
    return (law[:, :, None, None] * (level + across * x + down * y)[:, None]).exp()


def job_of(pictures: Pictures, kind: str, size, recipe: dict, seed: int, numbers: range) -> dict:
    """What `prepare` is asked."""
    return {
        "kind": kind,
        "size": tuple(size),
        "recipe": recipe,
        "seed": seed,
        "numbers": numbers,
        "pictures": len(pictures),
        "picture_size": tuple(pictures.levels[0].shape[-2:]),
        "levels": len(pictures.levels),
    }


def check_against_project(pictures: Pictures, size=(96, 160), count=6) -> dict:
    """Largest differences from the project's own scenes (on the CPU)."""
    from rdvfi.data.synthetic.moving import MovingTextures

    from rdvfi.data.pair_pool import scene_pairs

    painter, report = Painter(pictures), {}
    recipe = {"reach": 60.0, "details": 0.45, "plain": 0.6}
    job = job_of(pictures, "pairs", size, recipe, 5, range(count))
    mine = painter.paint(*prepare(job), strides=(8, 4, 2))
    true = scene_pairs(pictures, Recipe(**recipe), size, range(count), 5)
    for name in ("frames", "flows_8", "flows_4", "flows_2", "visible_8", "visible_4", "visible_2"):
        report["pairs " + name] = float((mine[name] - true[name].float()).abs().max())
        report["pairs mean " + name] = float((mine[name] - true[name].float()).abs().mean())
    moving = MovingTextures(pictures.levels[0], size, recipe=Recipe(reach=60.0))
    true = moving.samples(range(count), 7)
    job = job_of(pictures, "knots", size, {"reach": 60.0}, 7, range(count))
    mine = painter.paint(*prepare(job))
    for name, other in (
        ("frames", true["frames"][:, :KNOTS]),
        ("flows", true["flows"][:, :KNOTS, :2]),
        ("visible", true["visible"][:, :KNOTS, :2]),
    ):
        report["knots " + name] = float((mine[name] - other).abs().max())
        report["knots mean " + name] = float((mine[name] - other).abs().mean())
    return report
