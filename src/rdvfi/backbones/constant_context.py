"""Cross-attention to a constant context, computed once.

A one-step model without prompts reads the same context in every call, and most of its rows are
equal (zero padding). Rows that are equal have equal keys and values, so

* attention to ``n`` equal rows among others is attention to one such row whose score is raised by
  ``log n``;
* attention to equal rows alone is their value, whatever the query: a constant vector.

Both are identities, not approximations. `distinct_rows` finds the rows, `Folded` holds their keys and
values for one layer.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def distinct_rows(context: Float[Tensor, "s c"]) -> tuple[Float[Tensor, "u c"], Float[Tensor, " u"]]:
    """The rows of a context without repetition, and how often each occurs."""
    wide = torch.promote_types(context.dtype, torch.float32)  # half precision cannot be sorted
    rows, counts = torch.unique(context.to(wide), dim=0, return_counts=True)
    return rows.to(context), counts.to(context.device, torch.float32)


@dataclass(frozen=True, eq=False)
class Folded:
    """Keys and values of the distinct rows of a context, of all heads side by side.

    Args:
        keys: As the layer makes them of the rows, normalised.
        values: Likewise.
        counts: Number of occurrences of each row.
        heads: Number of attention heads that share the columns.
    """

    keys: Float[Tensor, "u d"]
    values: Float[Tensor, "u d"]
    counts: Float[Tensor, " u"]
    heads: int

    @property
    def constant(self) -> Float[Tensor, " d"] | None:
        """The result for every query, if it does not depend on the query."""
        return self.values[0] if len(self.values) == 1 else None

    def attend(self, queries: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Attention of each head's queries to the whole context."""
        if self.constant is not None:
            return self.constant.to(queries).expand_as(queries)
        # In float32: half precision would round log 511 by more than a per cent of the weight.
        rows = (queries, self.keys, self.values)
        q, k, v = (x.float().unflatten(-1, (self.heads, -1)) for x in rows)
        scores = torch.einsum("bnhd,uhd->bhnu", q, k) / q.shape[-1] ** 0.5
        shares = torch.softmax(scores + self.counts.log(), dim=-1)
        return torch.einsum("bhnu,uhd->bnhd", shares, v).flatten(2).to(queries)
