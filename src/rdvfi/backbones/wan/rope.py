"""Rotary position embedding at arbitrary times.

diffusers' module counts latent frames 0, 1, 2, ...; keyframes may be anywhere between. The angles
are ``position / theta^(2 i / d)``, so any real position has them; integers give the same bits as
the original's table. Height and width keep the original's tables.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_THETA = 10000.0


class FreeTimeRope(nn.Module):
    """diffusers' ``WanRotaryPosEmbed`` at explicit times.

    Args:
        stock: The original module, for its sizes and its tables of rows and columns.
        positions: Time of each latent frame, counted in latent frames.
    """

    freqs_cos: Tensor
    freqs_sin: Tensor
    time_cos: Tensor
    time_sin: Tensor

    def __init__(self, stock: nn.Module, positions: tuple[float, ...]) -> None:
        super().__init__()
        self.patch_size: tuple[int, int, int] = tuple(stock.patch_size)  # pyright: ignore
        self.dims: list[int] = [stock.t_dim, stock.h_dim, stock.w_dim]  # pyright: ignore
        time_cos, time_sin = angles(torch.tensor(positions, dtype=torch.float64), self.dims[0])
        # Not saved: they follow from the configuration, as in the original.
        self.register_buffer("freqs_cos", stock.freqs_cos, persistent=False)  # pyright: ignore
        self.register_buffer("freqs_sin", stock.freqs_sin, persistent=False)  # pyright: ignore
        self.register_buffer("time_cos", time_cos, persistent=False)
        self.register_buffer("time_sin", time_sin, persistent=False)

    def forward(self, hidden_states: Float[Tensor, "b c f h w"]) -> tuple[Tensor, Tensor]:
        """Cosines and sines of all patches of latents of this shape, (1, patches, 1, d)."""
        f, h, w = hidden_states.shape[2:]
        return self.table(f, h, w)

    def table(self, f: int, h: int, w: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines for ``f`` latent frames of ``h`` by ``w`` latent pixels.

        Raises:
            ValueError: If there are not as many frames as times, or the frames are too large.
        """
        _, ph, pw = self.patch_size
        if f != len(self.time_cos):
            raise ValueError(f"{f} latent frames for {len(self.time_cos)} times")
        if max(h // ph, w // pw) > len(self.freqs_cos):
            raise ValueError(
                f"latents of {h} by {w} are too large for a model of {len(self.freqs_cos)} "
                "positions; estimate motion at a smaller size"
            )
        return (
            self._spread(self.time_cos, self.freqs_cos, h // ph, w // pw),
            self._spread(self.time_sin, self.freqs_sin, h // ph, w // pw),
        )

    def _spread(self, time: Tensor, table: Tensor, h: int, w: int) -> Tensor:
        _, rows, columns = table.split(self.dims, dim=1)
        f = len(time)
        parts = (
            time.view(f, 1, 1, -1).expand(f, h, w, -1),
            rows[:h].view(1, h, 1, -1).expand(f, h, w, -1),
            columns[:w].view(1, 1, w, -1).expand(f, h, w, -1),
        )
        return torch.cat(parts, dim=-1).reshape(1, f * h * w, 1, -1)


def angles(positions: Tensor, dim: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Cosines and sines of rotary positions, each twice in a row, float32 from float64."""
    rates = 1.0 / _THETA ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    turned = torch.outer(positions.double(), rates)
    cos, sin = (x.repeat_interleave(2, dim=1).float() for x in (turned.cos(), turned.sin()))
    return cos, sin
