"""Layers that are faster on a GPU than those they replace; check of the Triton kernels."""

import torch
import torch.nn.functional as F
from torch import nn


class _Replicate(torch.autograd.Function):
    """Replicate padding by one, channels last, without atomic additions."""

    @staticmethod
    def forward(ctx, x):
        n, c, h, w = x.shape
        y = torch.empty((n, c, h + 2, w + 2), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        y[:, :, 1:-1, 1:-1] = x
        y[:, :, 1:-1, 0] = x[:, :, :, 0]
        y[:, :, 1:-1, -1] = x[:, :, :, -1]
        y[:, :, 0] = y[:, :, 1]
        y[:, :, -1] = y[:, :, -2]
        return y

    @staticmethod
    def backward(ctx, grad):
        rows = grad[:, :, 1:-1].clone(memory_format=torch.channels_last)
        rows[:, :, 0] += grad[:, :, 0]
        rows[:, :, -1] += grad[:, :, -1]
        mine = rows[..., 1:-1].clone(memory_format=torch.channels_last)
        mine[..., 0] += rows[..., 0]
        mine[..., -1] += rows[..., -1]
        return mine


_plain_conv = nn.Conv2d._conv_forward


def _conv_forward(self, x, weight, bias):
    if self.padding_mode != "replicate" or self.padding != (1, 1) or x.dim() != 4:
        return _plain_conv(self, x, weight, bias)
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        x = x.to(torch.get_autocast_dtype(kind))
    return F.conv2d(_Replicate.apply(x), weight, bias, self.stride, 0, self.dilation, self.groups)


def _mix_along_time(mix, x, n):
    y = x.unflatten(0, (-1, n))
    before, here, after = mix.weight.to(x.dtype)[:, 0, :, None, None].unbind(1)
    made = y * here + mix.bias.to(x.dtype)[:, None, None]
    made = torch.cat((made[:, :1], made[:, 1:] + y[:, :-1] * before), dim=1)
    made = torch.cat((made[:, :-1] + y[:, 1:] * after, made[:, -1:]), dim=1)
    return made.flatten(0, 1)


_plain_new_tensor = torch.Tensor.new_tensor
_constants: dict = {}


def _new_tensor(self, data, *args, **kwargs):
    if not self.is_cuda or args or kwargs or not isinstance(data, (list, tuple)):
        return _plain_new_tensor(self, data, *args, **kwargs)
    key = (str(data), self.device, self.dtype)
    if key not in _constants:
        _constants[key] = _plain_new_tensor(self, data)
    return _constants[key]


def install(device) -> str:
    """Check against what is replaced, then replace."""
    import rdvfi.backbones.compact.denoiser as denoiser
    from rdvfi.layers import conv

    try:
        layer = conv(5, 6).to(device)
        x = torch.randn(3, 5, 7, 9, device=device, requires_grad=True)
        both = []
        for call in (_plain_conv, _conv_forward):
            y = call(layer, x, layer.weight, layer.bias)
            both.append([y.detach(), *torch.autograd.grad((y * y.detach().sin()).sum(), [x, layer.weight])])
        for a, b in zip(*both, strict=True):
            assert torch.allclose(a, b, atol=2e-2, rtol=2e-2), float((a - b).abs().max())
        mix = nn.Conv1d(6, 6, 3, padding=1, groups=6).to(device)
        x = torch.randn(2 * 7, 6, 4, 5, device=device)
        a, b = _mix_along_time(mix, x, 7), denoiser._mix_along_time(mix, x, 7)
        assert torch.allclose(a, b, atol=2e-2, rtol=2e-2), float((a - b).abs().max())
    except Exception as error:
        return f"layers NOT replaced: {type(error).__name__}: {error}"
    torch.Tensor.new_tensor = _new_tensor
    nn.Conv2d._conv_forward = _conv_forward
    denoiser._mix_along_time = _mix_along_time
    return "layers replaced"


def check_kernels(device) -> str:
    """Where the project's Triton warp fails or differs, torch takes its place."""
    import rdvfi.ops.warp as warp

    if device.type != "cuda":
        return "not used"
    try:
        torch.manual_seed(1)
        image = torch.rand(4, 5, 32, 56, device=device)
        flow = 6.0 * torch.randn(4, 2, 32, 56, device=device)
        got = [torch.ops.rdvfi.backward_warp(image, flow)]
        got += torch.ops.rdvfi.backward_warp_backward(got[0].cos(), image, flow, True, True)
        true = [warp._reference(image, flow)]
        true += warp._reference_backward(got[0].cos(), image, flow, True, True)
        torch.cuda.synchronize()
        worst = max(float((a - b).abs().mean()) for a, b in zip(got, true, strict=True))
        if not worst < 1e-3:
            raise ValueError(f"differs by {worst:.2e} in the mean")
        return f"warp ok ({worst:.1e})"
    except Exception as error:
        warp.usable = lambda *tensors: False
        return f"warp REPLACED by torch: {type(error).__name__}: {str(error)[:200]}"


# ------------------------------------------------------------------ local correlation in one kernel

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

if triton is not None:

    @triton.jit
    def _forward(S, T, O, C, H, W, R: tl.constexpr, SIDE: tl.constexpr, K: tl.constexpr, X: tl.constexpr):
        """O[n, o, y, x] = sum_c S[n, c, y, x] T[n, c, y + dy, x + dx]; T is padded by R."""
        x = tl.program_id(0) * X + tl.arange(0, X)
        y = tl.program_id(1)
        n = tl.program_id(2)
        o = tl.arange(0, K)
        dy, dx = o // SIDE, o % SIDE
        on_x, on_o = x < W, o < SIDE * SIDE
        wide = W + 2 * R
        s = S + (n * C * H + y) * W + x
        t = T + (n * C * (H + 2 * R) + y + dy[:, None]) * wide + x[None, :] + dx[:, None]
        both = on_o[:, None] & on_x[None, :]
        total = tl.zeros((K, X), tl.float32)
        for _ in range(C):
            total += tl.load(s, on_x, 0.0)[None, :] * tl.load(t, both, 0.0)
            s += H * W
            t += (H + 2 * R) * wide
        tl.store(O + ((n * SIDE * SIDE + o[:, None]) * H + y) * W + x[None, :], total, both)

    @triton.jit
    def _to_source(G, T, D, C, H, W, R: tl.constexpr, SIDE: tl.constexpr, K: tl.constexpr, X: tl.constexpr):
        """D[n, c, y, x] = sum_o G[n, o, y, x] T[n, c, y + dy, x + dx]."""
        x = tl.program_id(0) * X + tl.arange(0, X)
        y = tl.program_id(1)
        n = tl.program_id(2)
        o = tl.arange(0, K)
        dy, dx = o // SIDE, o % SIDE
        on_x, on_o = x < W, o < SIDE * SIDE
        wide = W + 2 * R
        both = on_o[:, None] & on_x[None, :]
        g = tl.load(G + ((n * SIDE * SIDE + o[:, None]) * H + y) * W + x[None, :], both, 0.0)
        t = T + (n * C * (H + 2 * R) + y + dy[:, None]) * wide + x[None, :] + dx[:, None]
        d = D + (n * C * H + y) * W + x
        for _ in range(C):
            tl.store(d, tl.sum(g * tl.load(t, both, 0.0), axis=0), on_x)
            t += (H + 2 * R) * wide
            d += H * W

    @triton.jit
    def _to_target(G, S, D, C, H, W, R: tl.constexpr, SIDE: tl.constexpr, K: tl.constexpr, X: tl.constexpr):
        """D[n, c, v, u] = sum_o G[n, o, v - dy, u - dx] S[n, c, v - dy, u - dx], on the padded grid."""
        u = tl.program_id(0) * X + tl.arange(0, X)
        v = tl.program_id(1)
        n = tl.program_id(2)
        wide, high = W + 2 * R, H + 2 * R
        o = tl.arange(0, K)
        dy, dx = o // SIDE, o % SIDE
        y, x = v - dy[:, None], u[None, :] - dx[:, None]
        both = (o < SIDE * SIDE)[:, None] & (y >= 0) & (y < H) & (x >= 0) & (x < W)
        g = tl.load(G + ((n * SIDE * SIDE + o[:, None]) * H + y) * W + x, both, 0.0)
        s = S + (n * C * H + y) * W + x
        d = D + (n * C * high + v) * wide + u
        for _ in range(C):
            tl.store(d, tl.sum(g * tl.load(s, both, 0.0), axis=0), u < wide)
            s += H * W
            d += high * wide


class _Fast(torch.autograd.Function):
    @staticmethod
    def forward(ctx, source, wide, radius):
        source, wide = source.contiguous(), wide.contiguous()
        ctx.save_for_backward(source, wide)
        ctx.radius = radius
        n, c, h, w = source.shape
        side = 2 * radius + 1
        made = torch.empty(n, side * side, h, w, dtype=torch.float32, device=source.device)
        k = triton.next_power_of_2(side * side)
        _forward[(triton.cdiv(w, 32), h, n)](source, wide, made, c, h, w, radius, side, k, 32)
        return made

    @staticmethod
    def backward(ctx, grad):
        source, wide = ctx.saved_tensors
        n, c, h, w = source.shape
        r = ctx.radius
        side = 2 * r + 1
        k = triton.next_power_of_2(side * side)
        grad = grad.float().contiguous()
        to_source, to_wide = torch.empty_like(source), torch.empty_like(wide)
        _to_source[(triton.cdiv(w, 32), h, n)](grad, wide, to_source, c, h, w, r, side, k, 32)
        _to_target[(triton.cdiv(w + 2 * r, 32), h + 2 * r, n)](grad, source, to_wide, c, h, w, r, side, k, 32)
        return to_source, to_wide, None


def fast_correlation(source, target, radius):
    source, target = source.float(), target.float()
    wide = F.pad(target, (radius,) * 4, mode="replicate")
    return _Fast.apply(source * source.shape[1] ** -0.5, wide, radius)


def install_correlation(device) -> str:
    """The kernel in the place of `rdvfi.ops.correlation`, where both agree."""
    import rdvfi.motion.flow.global_local as user
    import rdvfi.motion.flow.matching as other
    from rdvfi.ops import correlation

    if device.type != "cuda" or triton is None:
        return "not used"
    try:
        for radius in (2, 3):
            a = torch.randn(3, 24, 21, 70, device=device, requires_grad=True)
            b = torch.randn(3, 24, 21, 70, device=device, requires_grad=True)
            both = []
            for call in (correlation, fast_correlation):
                y = call(a, b, radius)
                both.append([y.detach(), *torch.autograd.grad((y * y.detach().sin()).sum(), [a, b])])
            for p, q in zip(*both, strict=True):
                assert torch.allclose(p, q, atol=1e-3, rtol=1e-3), float((p - q).abs().max())
        user.correlation = other.correlation = fast_correlation
        return "correlation: own kernel"
    except Exception as error:
        return f"correlation by torch: {type(error).__name__}: {str(error)[:300]}"
