"""Train RDVFI-S on one GPU, by the clock, from the weights of RDVFI-S1.

    python train.py --seconds 430 --out $OUT

Phase 1, `--share` of the time: the coarse flow `global-local` (its matching included), on pairs drawn
on the device with exact flow, and on the film by frames between. Phase 2: denoiser and phi_s on top of
its averaged weights. Averages in half precision are saved every `--save-every` seconds.
"""

import argparse
import csv
import itertools
import json
import math
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

BEGAN = time.monotonic()
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "src")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402


def say(*words) -> None:
    print(f"[{time.monotonic() - BEGAN:6.1f}s]", *words, flush=True)


# ---------------------------------------------------------------------------------------- material


def load_film(device, limit: int):
    """(n, 3, 256, 448) 8-bit, on the device; frame i and i + 1 are neighbours where linked[i]."""
    import cv2

    index, cuts = np.load(HERE / "index.npy"), np.load(HERE / "cuts.npy")
    reader, frames = cv2.VideoCapture(str(HERE / "film.mp4")), []
    whole = torch.empty(min(limit, len(index)), 3, 256, 448, dtype=torch.uint8, device=device)
    for i in range(len(whole)):
        good, frame = reader.read()
        if not good:
            break
        frames.append(torch.from_numpy(frame))
        if len(frames) == 256 or i == len(whole) - 1:
            part = torch.stack(frames).to(device)
            whole[i + 1 - len(frames) : i + 1] = part.flip(-1).permute(0, 3, 1, 2)
            frames = []
    n = i + 1
    assert n >= 0.9 * len(whole), f"the film has {n} frames"
    index = index[:n]
    change = cuts[np.minimum(index, len(cuts) - 1)]
    linked = np.zeros(n, bool)
    linked[:-1] = (np.diff(index) == 1) & (change[:-1] <= 18.0) & (index[:-1] >= 240)
    return whole[:n], linked, change


class FilmWindows:
    """Windows of the film without cuts."""

    def __init__(self, device, limit: int) -> None:
        self.frames, linked, change = load_film(device, limit)
        run = np.zeros(len(linked) + 1, int)
        for i in range(len(linked) - 1, -1, -1):
            run[i] = run[i + 1] + 1 if linked[i] else 0
        self.starts = {}
        sums = np.concatenate([[0.0], np.cumsum(change)])
        for span in range(2, 18):
            good = [i for i in range(len(linked) - span) if run[i] >= span and (sums[i + span] - sums[i]) / span > 0.5]
            self.starts[span] = np.array(good)

    def batch(self, rng, count: int, span: int, middles: list[int], size):
        """(count, 2 + len(middles), 3, h, w) in [0, 1]: first, last, and some between."""
        starts = rng.choice(self.starts[span], count)
        offsets = np.array([0, span, *middles])
        if rng.random() < 0.5:
            offsets = span - offsets
            middles = [span - m for m in middles]
        index = torch.from_numpy(starts[:, None] + offsets).to(self.frames.device)
        some = self.frames[index]
        (h, w), (fh, fw) = size, some.shape[-2:]
        y, x = int(rng.integers(0, fh - h + 1)), int(rng.integers(0, fw - w + 1))
        some = some[..., y : y + h, x : x + w].float() / 255.0
        if rng.random() < 0.5:
            some = some.flip(-1)
        if rng.random() < 0.2:
            some = some.flip(-2)
        return some


def load_pictures(device, film):
    """Pieces of 352x640 of the photographs and stills of the film, 8-bit."""
    import cv2

    pieces = []
    with np.load(HERE / "photos.npz") as archive:
        for name in archive.files:
            image = cv2.imdecode(archive[name], cv2.IMREAD_COLOR)[..., ::-1]
            h, w = image.shape[:2]
            for y in np.unique(np.linspace(0, h - 352, max(1, round(1.5 * h / 352)), dtype=int)):
                for x in np.unique(np.linspace(0, w - 640, max(1, round(1.5 * w / 640)), dtype=int)):
                    if y >= 0 and x >= 0:
                        pieces.append(np.ascontiguousarray(image[y : y + 352, x : x + 640].transpose(2, 0, 1)))
            if min(h / 352, w / 640) > 1.2:
                whole = cv2.resize(image, (max(640, round(352 * w / h)), max(352, round(640 * h / w))))
                pieces.append(np.ascontiguousarray(whole[:352, :640].transpose(2, 0, 1)))
    stills = film.frames[torch.from_numpy(np.linspace(300, len(film.frames) - 1, 160, dtype=int))]
    stills = F.interpolate(stills.float(), (366, 640), mode="bilinear")[..., 7:359, :].round().clamp(0, 255).byte()
    return torch.cat((torch.from_numpy(np.stack(pieces)).to(device), stills))


# ------------------------------------------------------------------------------------ augmentation


def chosen(n, share, device):
    return torch.rand(n, 1, 1, 1, 1, device=device) < share


def recoloured(frames, light: float = 0.3):
    """Colours, and light that changes from frame to frame."""
    b, t = frames.shape[:2]
    device = frames.device

    def normal(deviation, *shape):
        return deviation * torch.randn(b, *shape, 1, 1, device=device)

    strong = torch.where(chosen(b, 0.15, device), 5.0, 1.0)
    lit = chosen(b, light, device)
    gain = (normal(0.15, 1, 1) + strong * lit * normal(0.04, t, 1) + normal(0.03, 1, 3)).exp()
    gamma = (normal(0.15, 1, 1) + lit * normal(0.04, t, 1)).exp()
    offset = normal(0.03, 1, 3) + lit * normal(0.015, t, 1)
    order = torch.rand(b, 3, device=device).argsort(1)
    order = torch.where(chosen(b, 0.3, device).flatten(1), order, torch.arange(3, device=device).expand(b, 3))
    frames = frames.gather(2, order[:, None, :, None, None].expand_as(frames))
    made = frames.clamp_min(1e-4) ** gamma * gain + offset
    grey = made.mean(2, keepdim=True).expand_as(made)
    return torch.where(chosen(b, 0.1, device), grey, made).clamp(0.0, 1.0)


def noisy(frames, share: float = 0.4):
    """Independent grain, fine or coarse."""
    b, t, c, h, w = frames.shape
    device = frames.device
    level = 0.03 * torch.rand(b, 1, 1, 1, 1, device=device) ** 1.5 * chosen(b, share, device)
    fine = torch.randn(b, t, c, h, w, device=device)
    coarse = F.interpolate(torch.randn(b * t, c, h // 2, w // 2, device=device), (h, w), mode="bilinear")
    coarse = 1.3 * coarse.unflatten(0, (b, t))
    return (frames + level * torch.where(chosen(b, 0.3, device), coarse, fine)).clamp(0.0, 1.0)


def static_masks(n, h, w, device):
    """Opaque share and colour of things that never move: bars, letters, boxes: (n, 1, h, w), (n, 3, h, w)."""
    ys = (torch.arange(h, device=device) + 0.5)[:, None].expand(h, w)
    xs = (torch.arange(w, device=device) + 0.5).expand(h, w)
    kind = torch.rand(n, 1, 1, device=device)
    # Bars, above and below or at both sides.
    size = (0.04 + 0.18 * torch.rand(n, 1, 1, device=device)) * torch.where(kind < 0.12, h, w)
    place = torch.where(kind < 0.12, torch.minimum(ys, h - ys)[None], torch.minimum(xs, w - xs)[None])
    bars = (place < size.round()) & (kind < 0.15)
    dark = 0.06 * torch.rand(n, 3, 1, 1, device=device) ** 2
    # Letters: blocks of random cells within a band, with an outline.
    cell = 4
    noise = torch.rand(n, 1, -(-h // cell), -(-w // cell), device=device) < 0.45
    letters = noise.float().repeat_interleave(cell, 2).repeat_interleave(cell, 3)[..., :h, :w]
    shift = [int(s) for s in torch.randint(0, cell, (2,))]
    letters = letters.roll(shift, (2, 3))
    strokes = (torch.rand(n, 1, h, -(-w // 3), device=device) < 0.5).float().repeat_interleave(3, 3)[..., :w]
    letters = torch.where(kind[:, None] > 0.93, F.max_pool2d(-F.max_pool2d(-letters, 3, 1, 1), 3, 1, 1), letters)
    top, left = torch.rand(n, 1, 1, device=device) * 0.85 * h, torch.rand(n, 1, 1, device=device) * 0.7 * w
    top = torch.where(kind > 0.9, 0.8 * h, top)
    high = (0.05 + 0.08 * torch.rand(n, 1, 1, device=device)) * h
    wide = (0.1 + 0.7 * torch.rand(n, 1, 1, device=device)) * w
    band = (ys > top) & (ys < top + high) & (xs > left) & (xs < left + wide)
    text = letters * (band & (kind > 0.85))[:, None]
    outline = F.max_pool2d(text, 3, 1, 1)
    box = (band & (kind > 0.80) & (kind <= 0.85))[:, None].float()
    bright = 0.6 + 0.4 * torch.rand(n, 3, 1, 1, device=device)
    plain = torch.rand(n, 3, 1, 1, device=device)
    del strokes
    mask = torch.maximum(torch.maximum(bars[:, None].float(), outline), box)
    colour = dark * bars[:, None] + bright * text + plain * box
    return mask, colour


def with_static(data, strides, share: float = 0.3):
    """Bars and letters over the pictures; flow, where it is given, is zero there."""
    frames = data["frames"]
    b, t, _, h, w = frames.shape
    device = frames.device
    mask, colour = static_masks(b, h, w, device)
    mask = mask * (torch.rand(b, 1, 1, 1, device=device) < share)
    data["frames"] = torch.lerp(frames, colour[:, None], mask[:, None])
    for s in strides:
        name = f"flows_{s}"
        if name not in data:
            continue
        flow, seen = data[name], data[f"visible_{s}"]
        hs, ws = flow.shape[-2:]
        here = mask[:, :, s // 2 :: s, s // 2 :: s] > 0.5  # even strides: the pixel beside the centre
        xs = torch.arange(ws, device=device) * s + (s - 1) / 2
        ys = torch.arange(hs, device=device) * s + (s - 1) / 2
        for way in range(2):
            x, y = (xs + flow[:, way, 0]).round().long(), (ys[:, None] + flow[:, way, 1]).round().long()
            place = (y.clamp(0, h - 1) * w + x.clamp(0, w - 1)).flatten(1)
            under = mask.flatten(1).gather(1, place).view(b, hs, ws) > 0.5
            seen[:, way] = torch.where(here[:, 0], 1.0, torch.where(under, 0.0, seen[:, way].float()))
        data[name] = torch.where(here[:, None], 0.0, flow)
    return data


def turned(data, across: bool, down: bool, back: bool):
    """Mirrored, upside down, and played backwards."""
    made = {}
    for key, value in data.items():
        if value.dim() < 4:
            made[key] = value
            continue
        dims = [d for d, on in ((-1, across), (-2, down)) if on]
        value = value.flip(dims) if dims else value
        if key.startswith("flows"):
            value = value * value.new_tensor([-1.0 if across else 1.0, -1.0 if down else 1.0])[:, None, None]
        made[key] = value.flip(1) if back else value
    return made


# --------------------------------------------------------------------------------------- optimiser


class Learner:
    """Optimiser, schedule by the clock, averages, checkpoints and log of some modules."""

    def __init__(self, args, name, groups, prefixes, device, begin, end) -> None:
        self.args, self.name, self.device, self.end = args, name, device, end
        self.out = Path(args.out)
        self.modules = prefixes
        self.parameters, self.rates, params = [], [], []
        for module, rate in groups:
            module.requires_grad_(True)
            own = list(module.parameters())
            self.parameters += own
            params.append({"params": own, "lr": rate, "base": rate})
        self.averages = [p.detach().float().clone() for p in self.parameters]
        kind = {"fused": True} if device.type == "cuda" else {}
        self.optimiser = torch.optim.AdamW(params, betas=(0.9, 0.99), weight_decay=1e-4, **kind)
        self.step, self.samples, self.began = 0, 0, begin
        self.sums, self.counts, self.rows = {}, {}, []
        self.saved = self.logged = time.monotonic()
        self.last = (0, 0)

    @property
    def progress(self) -> float:
        return min(1.0, max(0.0, (time.monotonic() - self.began) / (self.end - self.began)))

    def update(self, losses, samples: int) -> None:
        warm = min(1.0, (self.step + 1) / self.args.warmup)
        scale = warm * max(0.01, 0.5 * (1.0 + math.cos(math.pi * self.progress)))
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * scale
        total = torch.stack([v.float() for v in losses.values()]).sum()
        total.backward()
        for p in self.parameters:
            if p.grad is None:
                continue
            if p.grad.stride() != p.stride():
                p.grad = torch.empty_like(p).copy_(p.grad)
            torch.nan_to_num_(p.grad, 0.0, 0.0, 0.0)
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        decay = min(self.args.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, [p.data.float() for p in self.parameters], 1.0 - decay)
        for key, value in {**losses, "gradient": norm}.items():
            self.sums[key] = self.sums.get(key, 0.0) + value.detach().float()
            self.counts[key] = self.counts.get(key, 0) + 1
        self.step += 1
        self.samples += samples

    def log(self, more=None) -> None:
        now = time.monotonic()
        steps, samples = self.last
        row = {
            "seconds": round(now - BEGAN, 1),
            "step": self.step,
            "ms": round(1e3 * (now - self.logged) / max(1, self.step - steps), 1),
            "per_s": round((self.samples - samples) / max(1e-6, now - self.logged), 1),
        }
        row |= {k: round(float(v) / self.counts[k], 4) for k, v in sorted(self.sums.items())}
        row |= more or {}
        if self.device.type == "cuda":
            row["gb"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
        self.sums, self.counts, self.logged, self.last = {}, {}, now, (self.step, self.samples)
        self.rows.append(row)
        say(self.name, json.dumps(row))
        keys = list(dict.fromkeys(itertools.chain.from_iterable(self.rows)))
        with (self.out / f"{self.name}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, keys, restval="")
            writer.writeheader()
            writer.writerows(self.rows)

    def swap(self) -> None:
        """Exchange weights and averages."""
        with torch.no_grad():
            for p, a in zip(self.parameters, self.averages, strict=True):
                kept = p.detach().clone()
                p.copy_(a)
                a.copy_(kept)

    def save(self, suffix: str = "") -> None:
        from safetensors.torch import save_file

        self.swap()
        state = {
            f"{prefix}.{k}": v.detach().half().cpu().contiguous() if v.is_floating_point() else v.cpu()
            for prefix, module in self.modules.items()
            for k, v in module.state_dict().items()
        }
        self.swap()
        self.saved = time.monotonic()
        if not all(bool(torch.isfinite(v).all()) for v in state.values()):
            say(self.name, "NOT FINITE: not saved")
            return
        file = self.out / f"{self.name}{suffix}.safetensors"
        save_file(state, file.with_suffix(".partial"))
        os.replace(file.with_suffix(".partial"), file)
        say(f"saved {file.name}, {file.stat().st_size / 1e6:.2f} MB, step {self.step}")


STOP = [False]


def guarded(learner, step, batch: list[int]) -> None:
    try:
        step()
    except torch.OutOfMemoryError:
        learner.optimiser.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        batch[0] = max(2, batch[0] // 2)
        say(learner.name, f"OUT OF MEMORY: the batch is {batch[0]} from here on")


# ------------------------------------------------------------------------------------ phase 1: flow

STRIDES = (16, 8, 4, 2)


class Reservoir:
    """Painted pairs of one size, kept on the device and used several times."""

    def __init__(self, capacity: int, size, device) -> None:
        h, w = size
        self.capacity, self.total, self.size = capacity, 0, size
        self.frames = torch.zeros(capacity, 2, 3, h, w, dtype=torch.uint8, device=device)
        self.flows = {
            s: torch.zeros(capacity, 2, 2, h // s, w // s, dtype=torch.float16, device=device) for s in STRIDES
        }
        self.seen = {s: torch.zeros(capacity, 2, h // s, w // s, dtype=torch.uint8, device=device) for s in STRIDES}

    @property
    def count(self) -> int:
        return min(self.total, self.capacity)

    def insert(self, data) -> None:
        n = len(data["frames"])
        if self.total % self.capacity + n > self.capacity:
            self.total += self.capacity - self.total % self.capacity
        first = self.total % self.capacity
        place = slice(first, first + n)
        self.frames[place] = (data["frames"] * 255.0).round().to(torch.uint8)
        for s in STRIDES:
            self.flows[s][place] = data[f"flows_{s}"].clamp(-6e4, 6e4).half()
            self.seen[s][place] = data[f"visible_{s}"].to(torch.uint8)
        self.total += n

    def batch(self, size: int):
        index = torch.randint(self.count, (size,), device=self.frames.device)
        data = {"frames": self.frames[index].float() / 255.0}
        for s in STRIDES:
            data[f"flows_{s}"] = self.flows[s][index].float()
            data[f"visible_{s}"] = self.seen[s][index].float()
        return data


def part_of_batch(found, count: int):
    """What was found for the first `count` pairs, and the finest flow of the others."""
    from rdvfi.motion.flow.global_local import Refined
    from rdvfi.motion.flow.matching import Found

    def head(flow):
        onward, back = flow.chunk(2)
        return torch.cat((onward[:count], back[:count]))

    onward, back = found.flows[-1].float().chunk(2)
    matched = found.matched
    matched = Found(matched.scores[:count], [head(f) for f in matched.flows], matched.uncertainty)
    return Refined(matched, [head(f) for f in found.flows]), torch.cat((onward[count:], back[count:]))


def pair_losses(coarse, data, args, extra=None):
    """Every estimate of the flow against the exact one; film pairs may join the batch."""
    from rdvfi.training.losses.match import matching_loss

    first, last = data["frames"].unbind(1)
    h = first.shape[-2]

    def both(name):
        return data[name].transpose(0, 1).flatten(0, 1)

    losses = {}
    if extra is None:
        found = coarse.find(first, last)
    else:
        seen, frames, t = extra
        found = coarse.find(torch.cat((first, seen[:, 0])), torch.cat((last, seen[:, 1])))
        found, flow = part_of_batch(found, len(first))
        made = drawn_from(flow, frames[:, 0], frames[:, 1], t)
        losses["film"] = args.w_film * frame_loss(made, frames[:, 2])
    known = {s: (both(f"flows_{s}"), both(f"visible_{s}")) for s in STRIDES}
    exact, seen = known[16]
    losses["matching"] = args.w_matching * matching_loss(found.matched.logits, exact / 16.0, seen)
    total = 0.0
    rough = found.matched.flows
    for i, flow in enumerate(rough):
        stride = h // flow.shape[-2]
        exact, seen = known[stride]
        error = ((flow.float() * stride - exact).square().sum(1) + 1e-8).sqrt()
        weight = seen if i == 0 else seen + 0.3 * (1.0 - seen)
        mean = (weight * (error + 0.1).pow(0.7)).sum() / weight.sum().clamp(min=1.0)
        total = total + (0.15 + 0.85 * i / (len(rough) - 1)) * mean
    losses["rough"] = args.w_rough * total
    total, fine = 0.0, found.flows
    for i, flow in enumerate(fine):
        stride = h // flow.shape[-2]
        exact, seen = known[stride]
        error = ((flow.float() * stride - exact).square().sum(1) + 1e-8).sqrt()
        weight = seen + 0.2 * (1.0 - seen)
        mean = (weight * (error + 0.02).sqrt()).sum() / weight.sum().clamp(min=1.0)
        total = total + (0.3 + 0.7 * i / (len(fine) - 1)) * mean
    losses["fine"] = total
    with torch.no_grad():
        e, v = error, seen
        small = ((exact.square().sum(1).sqrt() < 2.0) & (v > 0.5)).float()
        still = ((exact.square().sum(1).sqrt() < 0.01) & (v > 0.5)).float()
        numbers = {
            "epe": (e * v).sum() / v.sum(),
            "epe_hidden": (e * (1 - v)).sum() / (1 - v).sum().clamp(min=1),
            "epe_small": (e * small).sum() / small.sum().clamp(min=1),
            "epe_still": (e * still).sum() / still.sum().clamp(min=1),
            "beyond_1px": ((e > 1.0) * v).sum() / v.sum(),
        }
    return losses, numbers


def drawn_from(flow, first, last, t: float):
    """The frame at t along straight lines, warped from both ends; flow (2 b, 2, h/2, w/2), in cells."""
    from rdvfi.geometry import resize_flow
    from rdvfi.ops import backward_warp, straight_flows

    size = (first.shape[-2], first.shape[-1])
    onward, back = flow.chunk(2)
    to_first, to_last = (f[:, 0] for f in straight_flows(onward, back, torch.tensor([t], device=flow.device)))
    to_first, to_last = resize_flow(to_first, size), resize_flow(to_last, size)
    a, b = backward_warp(first, to_first), backward_warp(last, to_last)
    with torch.no_grad():

        def inside(f):
            grid_y = torch.arange(size[0], device=f.device)[:, None] + f[:, 1:]
            grid_x = torch.arange(size[1], device=f.device) + f[:, :1]
            return ((grid_x > -1) & (grid_x < size[1]) & (grid_y > -1) & (grid_y < size[0])).float() + 0.05

        back_error = (onward + backward_warp(back, onward)).square().sum(1, keepdim=True).sqrt()
        fore_error = (back + backward_warp(onward, back)).square().sum(1, keepdim=True).sqrt()
        wa = F.interpolate(torch.exp(-0.5 * back_error), size, mode="bilinear")
        wb = F.interpolate(torch.exp(-0.5 * fore_error), size, mode="bilinear")
        wa = (backward_warp(wa, to_first) + 0.05) * inside(to_first) * (1.0 - t)
        wb = (backward_warp(wb, to_last) + 0.05) * inside(to_last) * t
        share = wa / (wa + wb)
    return a * share + b * (1.0 - share)


def frame_loss(made, truth):
    """Charbonnier of colours and of their differences across one and two pixels."""

    def charbonnier(x):
        return (x.square() + 1e-5).sqrt().mean()

    error = made - truth
    total = charbonnier(error)
    for step in (1, 2):
        total = total + charbonnier(error[..., step:] - error[..., :-step])
        total = total + charbonnier(error[..., step:, :] - error[..., :-step, :])
    return total


def film_pairs(film, rng, count, size):
    """Pairs of the film, as the flow sees them and as they are, with a frame between and its time."""
    span = int(rng.choice([2, 2, 3, 4, 5, 6, 7, 8, 9]))
    middle = span // 2 if rng.random() < 0.5 else int(rng.integers(1, span))
    frames = recoloured(film.batch(rng, count, span, [middle], size), light=0.0)
    return noisy(frames[:, :2], 0.15), frames, middle / span


def tuned(name, batch, sizes, run, limit: float) -> None:
    """Choose the largest batch whose step keeps within a time; nothing is trained here."""
    if not torch.cuda.is_available():
        return
    best = None
    for size in sizes:
        try:
            for count in (2, 5):
                torch.cuda.synchronize()
                start = time.monotonic()
                for _ in range(count):
                    run(size)
                torch.cuda.synchronize()
            took = (time.monotonic() - start) / count
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        say(
            name,
            f"batch {size}: {1e3 * took:.0f} ms, {size / took:.0f}/s, {torch.cuda.max_memory_allocated() / 2**30:.0f} GB",
        )
        if best is None or (took < limit and size / took > 1.1 * best[1]):
            best = size, size / took
        if took > limit:
            break
    batch[0] = best[0]
    say(name, "batch:", batch[0])


def train_flow(args, device, model, painter, film, plans, end):
    from scenes_gpu import job_of

    coarse = model.generator.coarse
    matching = coarse.matching
    rest = nn.ModuleList(m for n, m in coarse.named_children() if n != "matching")
    groups = [(rest, args.rate), (matching, args.rate_matching)]
    learner = Learner(args, "coarse", groups, {"coarse": coarse}, device, time.monotonic(), end)
    sizes = {tuple(args.large): 0.65, tuple(args.small): 0.35}
    stores = {size: Reservoir(args.capacity, size, device) for size in sizes}
    numbers, ready, draw = itertools.count(), [], random.Random(args.seed)
    rng = np.random.default_rng(args.seed)
    cook = args.cook

    def job(size, seed, span, near=0.5):
        recipe = {"reach": 90.0 * size[1] / 256.0 * 0.8, "details": 0.45, "plain": 0.6, "blurred": 0.3}
        return job_of(painter.pictures, "pairs", size, recipe, seed, span) | {"near": near}

    held = []
    for near in (0.0, 1.0):
        plans.give("plan", job(tuple(args.large), 990_001, range(args.validate), near), ("held", near))
    while len(held) < 2:
        for tag, good, made in plans.take(30.0):
            if not good:
                raise RuntimeError(f"no plans: {plans.failures}")
            held.append((tag[1], painter.paint(*made, strides=STRIDES)))
    held = dict(held)

    @torch.no_grad()
    def validate():
        coarse.steps, coarse.fine_steps = 2, 1
        row = {}
        for near, data in held.items():
            sums = {}
            for i in range(0, args.validate, 16):
                some = {k: v[i : i + 16] for k, v in data.items() if v.dim() > 3}
                with torch.autocast(device.type, torch.bfloat16):
                    losses, found = pair_losses(coarse, some, args)
                for k, v in {**losses, **found}.items():
                    sums[k] = sums.get(k, 0.0) + float(v) * len(some["frames"]) / args.validate
            row |= {f"val{int(near)}_{k}": round(v, 4) for k, v in sums.items()}
        return row

    learner.rows.append({"seconds": 0, "step": 0} | (start := validate()))
    say("flow: at the start:", json.dumps(start))
    batch = [args.batch]

    def trial(size: int) -> None:
        some = {k: v[torch.arange(size, device=device) % args.validate] for k, v in held[0.0].items() if v.dim() > 3}
        extra = film_pairs(film, rng, max(2, size // 3), tuple(args.large))
        with torch.autocast(device.type, torch.bfloat16):
            losses, _ = pair_losses(coarse, some, args, extra)
        torch.stack([v.float() for v in losses.values()]).sum().backward()
        learner.optimiser.zero_grad(set_to_none=True)

    tuned("flow", batch, args.batches, trial, args.limit)
    next_log, next_check = time.monotonic() + args.log_every, time.monotonic() + args.check_every
    used = {size: 0 for size in sizes}
    while time.monotonic() < end and not STOP[0] and not (args.steps and learner.step >= args.steps):
        while plans.free > 0 and len(ready) + plans.busy < 2 * args.workers:
            size = draw.choices(list(sizes), list(sizes.values()))[0]
            k = next(numbers)
            plans.give("plan", job(size, args.seed, range(k * 1000, k * 1000 + cook)), size)
        ready += [
            (tag, made)
            for tag, good, made in plans.take(0.0 if ready or min(s.count for s in stores.values()) else 5.0)
            if good
        ]

        def paint() -> bool:
            if not ready:
                return False
            size, made = ready.pop(0)
            stores[size].insert(painter.paint(*made, strides=STRIDES))
            return True

        def step() -> None:
            size = draw.choices(list(sizes), list(sizes.values()))[0]
            store = stores[size]
            hungry = used[size] >= args.reuse * store.total or store.count < batch[0]
            if hungry and not paint():
                time.sleep(0.002)
                if store.count < batch[0]:
                    return
            elif not hungry and learner.step % 3 == 0:
                paint()
            if store.count < batch[0]:
                return
            data = store.batch(batch[0])
            used[size] += batch[0]
            data = turned(data, draw.random() < 0.5, draw.random() < 0.3, draw.random() < 0.5)
            data = with_static(data, STRIDES)
            data["frames"] = noisy(recoloured(data["frames"]))
            # Fewer refinements must do, too: what a CPU can afford is chosen afterwards.
            coarse.steps, coarse.fine_steps = draw.choice([2, 3]), draw.choice([1, 1, 2])
            extra = film_pairs(film, rng, max(2, batch[0] // 3), size) if learner.progress > 0.1 else None
            with torch.autocast(device.type, torch.bfloat16):
                losses, found = pair_losses(coarse, data, args, extra)
            learner.update(losses, batch[0])
            for k, v in found.items():
                learner.sums[k] = learner.sums.get(k, 0.0) + v
                learner.counts[k] = learner.counts.get(k, 0) + 1

        guarded(learner, step, batch)
        now = time.monotonic()
        if now > next_log:
            more = {"scenes": sum(s.total for s in stores.values()), "ready": len(ready)}
            if now > next_check:
                learner.swap()
                more |= validate()
                learner.swap()
                next_check = time.monotonic() + args.check_every
            learner.log(more)
            next_log = time.monotonic() + args.log_every
        if now - learner.saved > args.save_every and learner.step:
            learner.save()
    learner.save()
    learner.swap()
    learner.log(validate())
    say("flow: done", learner.step, "steps", learner.samples, "pairs; failures", plans.failures[:2])
    coarse.requires_grad_(False)
    for store in stores.values():
        del store.frames, store.flows, store.seen


# -------------------------------------------------------------------- phase 2: denoiser and renderer


def clip_losses(model, data, args, which):
    """Denoiser and phi_s on clips: knots where there are any, ends and a true frame between."""
    from rdvfi.interfaces import Motion

    generator = model.generator
    frames, t = data["frames"], data["t"]
    first, last, truth = frames[:, 0], frames[:, 1], frames[:, 2]
    with torch.no_grad():
        flows = torch.stack([f.float() for f in generator.coarse.both_ways(first, last)], dim=1)
        ends = [generator.encode(x).float() for x in (first, last)]
    start = generator.ends(*ends, flows[:, 0], flows[:, 1])
    shape = generator.noise_shape(len(frames), *first.shape[-2:])
    noise = torch.randn(shape, device=frames.device)
    pure = torch.ones(len(frames), device=frames.device)
    bent = generator.denoise(start, noise, pure)
    losses = {}
    if "knots" in data:
        with torch.no_grad():
            clean = generator.encode(data["knots"].flatten(0, 1)).unflatten(0, data["knots"].shape[:2])
        losses["theta"] = args.w_theta * F.mse_loss(bent.latents.float(), clean.float())
        made = torch.stack((bent.to_first, bent.to_last), dim=2).float()
        losses["flow"] = args.w_flow * precise_flow_loss(made, data["flows"] / 8.0, data["visible"])
    keyframes = generator.keyframes(start, bent, flows)
    trajectory = model.trajectory(keyframes)
    times = torch.tensor([t], device=frames.device)
    motion = Motion(keyframes, trajectory)
    with torch.autocast(frames.device.type, torch.bfloat16):
        drawn = model.renderer.refine(first, last, motion, times)
    made = composed(first, last, drawn)
    losses["frame"] = frame_loss(made, truth)
    mse = (made - truth).square().mean((1, 2, 3))
    losses["psnr"] = args.w_psnr * torch.log1p(mse / 1e-5).mean()
    numbers = {f"dB_{which}": -10.0 * torch.log10(mse.detach() + 1e-8).mean()}
    return losses, numbers


def precise_flow_loss(made, exact, seen):
    error = ((made - exact).square().sum(-3) + 1e-6).sqrt()
    weight = 0.2 + 0.8 * seen
    return (weight * (error + 0.01).pow(0.6)).sum() / weight.sum()


def composed(first, last, drawn):
    """The frame at full size: what `rdvfi.ops.render` does, with gradients."""
    from rdvfi.geometry import resize_flow, resize_image
    from rdvfi.ops import backward_warp

    size = (first.shape[-2], first.shape[-1])
    flow0, flow1, mask, residual = (x[:, 0].float() for x in (drawn.flow0, drawn.flow1, drawn.mask, drawn.residual))
    a = backward_warp(first, resize_flow(flow0, size).contiguous())
    b = backward_warp(last, resize_flow(flow1, size).contiguous())
    mask, residual = resize_image(mask, size), resize_image(residual, size)
    return a * mask + b * (1.0 - mask) + residual


def lit(frames, times):
    """Light that changes evenly in time, in a quarter of the clips."""
    b, n, _, h, w = frames.shape
    device = frames.device
    y = torch.linspace(-1.0, 1.0, h, device=device)[:, None].expand(h, w)
    x = torch.linspace(-1.0, 1.0, w, device=device).expand(h, w)
    level, across, down = (
        torch.randn(3, b, 1, 1, 1, 1, device=device)
        * torch.tensor([0.35, 0.12, 0.12], device=device).view(3, 1, 1, 1, 1, 1)
    ).unbind(0)
    rate = (level + across * x + down * y) * chosen(b, 0.25, device)
    return (frames * (rate * (times - 0.5).view(1, n, 1, 1, 1)).exp()).clamp(0.0, 1.0)


def reload_flow(args, model, state) -> None:
    """Take the newest averages of the flow, where another process trains it."""
    from safetensors.torch import load_file

    file = Path(args.flow_from)
    if not file.exists() or file.stat().st_mtime == state.get("time"):
        return
    state["time"] = file.stat().st_mtime
    with torch.no_grad():
        for k, v in load_file(file).items():
            model.generator.coarse.get_parameter(k.removeprefix("coarse.")).copy_(v.float())
    say("rest: the flow of", file.name, "is taken")


def train_rest(args, device, model, painter, film, plans, end):
    from scenes_gpu import job_of

    generator, renderer = model.generator, model.renderer
    known = {}
    if args.flow_from:
        while not STOP[0] and (time.monotonic() - BEGAN < args.wait or not Path(args.flow_from).exists()):
            time.sleep(0.5)
        reload_flow(args, model, known)
    denoiser = generator.denoiser
    groups = [(denoiser, args.rate_denoiser), (renderer, args.rate_renderer)]
    prefixes = {"backbone": denoiser, "renderer": renderer}
    learner = Learner(args, "rest", groups, prefixes, device, time.monotonic(), end)
    size, rng, numbers, ready = tuple(args.clip), np.random.default_rng(args.seed + 1), itertools.count(), []
    batch = [args.batch_clips]

    def job(seed, span, free):
        recipe = {"reach": 90.0 * size[1] / 256.0 * 0.8, "limbs": 0.35, "details": 0.3, "plain": 0.3, "blurred": 0.0}
        return job_of(painter.pictures, "knots", size, recipe, seed, span) | {"near": 0.5, "free": [free]}

    def scene(made, t, augmented=True):
        data = painter.paint(*made, strides=(8,))
        frames = data["frames"]
        order = torch.cat((frames[:, :1], frames[:, 8:9], frames[:, 9:10], frames[:, 1:8]), dim=1)
        if augmented:
            order = with_static({"frames": order}, ())["frames"]
            moments = torch.cat((torch.tensor([0.0, 1.0, t]), torch.arange(1, 8) / 8)).to(device)
            order = lit(recoloured(order, light=0.0), moments)
        return {
            "frames": order[:, :3],
            "knots": order[:, 3:],
            "t": t,
            "flows": data["flows"][:, 1:8],
            "visible": data["visible"][:, 1:8],
        }

    def film_clip(rng, count):
        span = int(rng.choice([2, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 9]))
        middle = span // 2 if rng.random() < 0.4 else int(rng.integers(1, span))
        frames = film.batch(rng, count, span, [middle], size)
        frames = lit(recoloured(frames, light=0.0), torch.tensor([0.0, 1.0, middle / span], device=device))
        if rng.random() < 0.3:
            frames = with_static({"frames": frames}, (), 0.5)["frames"]
        return {"frames": frames, "t": middle / span}

    held = []
    plans.take(0.0)
    for free in (0.5, 0.3):
        plans.give("plan", job(990_003, range(args.validate_clips), free), ("held", free))
    while len(held) < 2:
        for tag, good, made in plans.take(30.0):
            if not good:
                raise RuntimeError(f"no plans: {plans.failures}")
            if isinstance(tag, tuple) and tag[0] == "held":
                held.append(scene(made, tag[1], augmented=False))
    fixed = np.random.default_rng(77)
    held += [film_clip(fixed, args.validate_clips) for _ in range(3)]

    @torch.no_grad()
    def validate():
        sums = {}
        for i, data in enumerate(held):
            torch.manual_seed(5)
            with torch.autocast(device.type, torch.bfloat16):
                losses, found = clip_losses(model, data, args, "scenes" if i < 2 else "film")
            for k, v in {**losses, **found}.items():
                sums.setdefault(k, []).append(float(v))
        return {f"val_{k}": round(sum(v) / len(v), 4) for k, v in sums.items()}

    learner.rows.append({"seconds": 0, "step": 0} | (start := validate()))
    say("rest: at the start:", json.dumps(start))

    def trial(size: int) -> None:
        data = film_clip(rng, size)
        with torch.autocast(device.type, torch.bfloat16):
            losses, _ = clip_losses(model, data, args, "film")
        torch.stack([v.float() for v in losses.values()]).sum().backward()
        learner.optimiser.zero_grad(set_to_none=True)

    tuned("rest", batch, args.batches_clips, trial, args.limit_clips)
    next_log, next_check = time.monotonic() + args.log_every, time.monotonic() + args.check_every
    while time.monotonic() < end and not STOP[0] and not (args.steps and learner.step >= args.steps):
        while plans.free > 0 and len(ready) + plans.busy < 2 * args.workers:
            free, k = float(rng.uniform(0.06, 0.94)), next(numbers)
            plans.give("plan", job(args.seed + 7, range(k * 1000, k * 1000 + batch[0]), free), free)
        ready += [(tag, made) for tag, good, made in plans.take(0.0) if good and not isinstance(tag, tuple)]

        def step() -> None:
            use_film = learner.step % 2 == 1 or not ready
            if use_film:
                data, which = film_clip(rng, batch[0]), "film"
            else:
                t, made = ready.pop(0)
                data, which = scene(made, t), "scenes"
            with torch.autocast(device.type, torch.bfloat16):
                losses, found = clip_losses(model, data, args, which)
            learner.update(losses, len(data["frames"]))
            for k, v in found.items():
                learner.sums[k] = learner.sums.get(k, 0.0) + v
                learner.counts[k] = learner.counts.get(k, 0) + 1

        guarded(learner, step, batch)
        now = time.monotonic()
        if now > next_log:
            more = {"ready": len(ready)}
            if now > next_check:
                learner.swap()
                more |= validate()
                learner.swap()
                next_check = time.monotonic() + args.check_every
            learner.log(more)
            next_log = time.monotonic() + args.log_every
        if now - learner.saved > args.save_every and learner.step:
            learner.save()
            if args.flow_from:
                reload_flow(args, model, known)
    learner.save()
    learner.swap()
    learner.log(validate())
    say("rest: done", learner.step, "steps", learner.samples, "clips; failures", plans.failures[:2])


# ------------------------------------------------------------------------------------------- whole


def build_model(args, device):
    """RDVFI-S1 with the new coarse flow, from its weights and those of earlier runs."""
    from safetensors.torch import load_file

    import rdvfi  # noqa: F401
    from rdvfi.interpolator import Interpolator
    from rdvfi.registry import backbones, bases, flows, renderers, trajectories

    coarse = flows.create("global-local", steps=args.refinements, fine_steps=args.fine_refinements)
    generator = backbones.create("compact", coarse=coarse)
    generator.coarse_flows = lambda a, b: torch.stack([f.float() for f in coarse.both_ways(a, b)], dim=1)
    trajectory = trajectories.create("straight", basis=bases.create("cubic"), residual_motion=True)
    model = Interpolator(generator, trajectory, renderers.create("synthesis", one_light=True))
    old = load_file(args.shipped)
    state = {k: v.float() for k, v in old.items() if not k.startswith(("generator.coarse.", "trajectory."))}
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys, missing.unexpected_keys[:5]
    assert all(k.startswith("generator.coarse.") for k in missing.missing_keys), missing.missing_keys[:5]
    matcher = {k.removeprefix("coarse.learned."): v.float() for k, v in load_file(HERE / "coarse.safetensors").items()}
    coarse.matching.load_state_dict(matcher)
    if not args.old_denoiser:
        state = {k.removeprefix("backbone."): v.float() for k, v in load_file(HERE / "backbone.safetensors").items()}
        generator.denoiser.load_state_dict(state)
    for file in args.init:
        for k, v in load_file(file).items():
            part, name = k.split(".", 1)
            module = {"coarse": coarse, "backbone": generator.denoiser, "renderer": model.renderer}[part]
            module.get_parameter(name).data.copy_(v.float())
        say("from", file)
    model = model.to(device).train().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
    return model


def together(args) -> int:
    """Both phases as processes that share the card; the second waits for a good flow."""
    import subprocess

    words = [w for w in sys.argv[1:]]
    flow = str(Path(args.out) / "coarse.safetensors")
    wait = args.share * args.seconds
    commands = {
        "flow": [*words, "--only", "flow"],
        "rest": [*words, "--only", "rest", "--flow-from", flow, "--wait", str(wait)],
    }
    children, again = {}, set()

    def start(name, *more):
        children[name] = subprocess.Popen([sys.executable, "-u", str(Path(__file__).resolve()), *commands[name], *more])

    def end(*_):
        STOP[0] = True
        for child in children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)

    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, end)
    for name in commands:
        start(name)
    while any(child.poll() is None for child in children.values()):
        time.sleep(0.5)
        left = args.seconds - (time.monotonic() - BEGAN)
        for name, child in list(children.items()):
            if child.poll() and name not in again and left > 60.0 and not STOP[0]:
                again.add(name)
                more = ["--safe", "--seconds", str(left)]
                if name == "rest":
                    more += ["--wait", str(max(0.0, wait - (time.monotonic() - BEGAN)))]
                elif Path(flow).exists():
                    more += ["--init", flow]
                say(name, "exit", child.returncode, "- once more:", *more)
                start(name, *more)
        if left < -15.0:
            end()
            time.sleep(5.0)
            for child in children.values():
                if child.poll() is None:
                    child.kill()
            break
    return max(abs(child.wait()) for child in children.values())


def main() -> int:
    p = argparse.ArgumentParser()
    p.add_argument("--seconds", type=float, default=430.0)
    p.add_argument("--share", type=float, default=0.6)
    p.add_argument("--reserve", type=float, default=6.0)
    p.add_argument("--out", default=os.environ.get("OUT", "out"))
    p.add_argument("--device", default="cuda")
    p.add_argument("--shipped", default="src/rdvfi/weights/rdvfi-s1.safetensors")
    p.add_argument("--init", nargs="*", default=[])
    p.add_argument("--old-denoiser", action="store_true")
    p.add_argument("--safe", action="store_true")
    p.add_argument("--only", choices=("together", "both", "flow", "rest"), default="together")
    p.add_argument("--flow-from", default="")
    p.add_argument("--wait", type=float, default=0.0)
    p.add_argument("--batches", type=int, nargs="*", default=[32, 48, 64, 96, 128])
    p.add_argument("--limit", type=float, default=0.22)
    p.add_argument("--batches-clips", type=int, nargs="*", default=[24, 36, 48, 64])
    p.add_argument("--limit-clips", type=float, default=0.3)
    p.add_argument("--seed", type=int, default=2027)
    p.add_argument("--steps", type=int, default=0)
    p.add_argument("--warmup", type=int, default=60)
    p.add_argument("--average", type=float, default=0.997)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--workers", type=int, default=6)
    p.add_argument("--frames", type=int, default=10**9)
    p.add_argument("--log-every", type=float, default=10.0)
    p.add_argument("--check-every", type=float, default=40.0)
    p.add_argument("--save-every", type=float, default=40.0)
    p.add_argument("--rate", type=float, default=1.2e-3)
    p.add_argument("--rate-matching", type=float, default=2e-4)
    p.add_argument("--rate-denoiser", type=float, default=4e-4)
    p.add_argument("--rate-renderer", type=float, default=4e-4)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--batch-clips", type=int, default=24)
    p.add_argument("--cook", type=int, default=48)
    p.add_argument("--reuse", type=float, default=8.0)
    p.add_argument("--capacity", type=int, default=8192)
    p.add_argument("--validate", type=int, default=48)
    p.add_argument("--validate-clips", type=int, default=16)
    p.add_argument("--large", type=int, nargs=2, default=(256, 448))
    p.add_argument("--small", type=int, nargs=2, default=(192, 320))
    p.add_argument("--clip", type=int, nargs=2, default=(256, 448))
    p.add_argument("--refinements", type=int, default=2)
    p.add_argument("--fine-refinements", type=int, default=1)
    p.add_argument("--w-matching", type=float, default=0.3)
    p.add_argument("--w-rough", type=float, default=0.3)
    p.add_argument("--w-film", type=float, default=3.0)
    p.add_argument("--w-theta", type=float, default=1.0)
    p.add_argument("--w-flow", type=float, default=1.0)
    p.add_argument("--w-psnr", type=float, default=0.03)
    args = p.parse_args()
    Path(args.out).mkdir(parents=True, exist_ok=True)
    if args.only == "together":
        return together(args)

    from farm import Farm

    import rdvfi  # noqa: F401

    assert not torch.cuda.is_initialized()
    plans = Farm(args.workers)
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(0)
        device = torch.device("cuda", 0)
        torch.backends.cudnn.allow_tf32 = True
        torch.set_float32_matmul_precision("highest")
        say(torch.cuda.get_device_name(), torch.__version__)
    torch.set_num_threads(args.threads)
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: STOP.__setitem__(0, True))
    import fast

    if args.safe:
        import rdvfi.ops.warp as warp

        warp.usable = lambda *tensors: False
    else:
        say(fast.check_kernels(device), "|", fast.install(device), "|", fast.install_correlation(device))
    torch.manual_seed(args.seed)
    from scenes_gpu import Painter

    from rdvfi.data.synthetic.textures import Pictures

    film = FilmWindows(device, args.frames)
    say("film:", len(film.frames), "frames;", {k: len(v) for k, v in film.starts.items() if k in (2, 9)})
    painter = Painter(Pictures(load_pictures(device, film)))
    say("pictures:", len(painter.pictures))
    model = build_model(args, device)
    last = BEGAN + args.seconds - args.reserve
    shared = device, model, painter, film, plans
    failed = 0
    if args.only != "rest":
        now = time.monotonic()
        end = last if args.only == "flow" else now + args.share * (last - now)
        try:
            train_flow(args, *shared, end)
        except Exception:
            failed = 1
            traceback.print_exc()
    if args.only != "flow" and not STOP[0]:
        try:
            torch.cuda.empty_cache()
            train_rest(args, *shared, last)
        except Exception:
            failed = 1
            traceback.print_exc()
    plans.close()
    return failed


if __name__ == "__main__":
    sys.exit(main())
