"""Origin, licences and citation of a component.

Licences of code and of weights often differ, and weights are what most projects trip over: a
permissive implementation may load weights that forbid commercial use. So both are stated apart.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class About:
    """Information that a signature does not contain; None is shown as "not stated".

    Given when an entry is registered::

        @rdvfi.flows.register("mine", about=About(weights="example.org", weights_licence="MIT"))
    """

    licence: str | None = None
    """Of the code, as an SPDX expression; if not stated, that of the package it comes in."""
    weights: str | None = None
    """Where trained weights come from: a publisher, an address, or how to train them."""
    weights_licence: str | None = None
    """Of those weights."""
    citation: str | None = None
    """Authors, title and year of what it implements."""
    url: str | None = None
    """Where to read more."""


RDVFI_S = About(
    weights="installed with this package, in the model rdvfi-s",
    weights_licence="Apache-2.0",
    citation="RDVFI. ICLR 2026",
    url="https://openreview.net/forum?id=OiWyf1BNtC",
)
"""Of the learned parts of RDVFI-S."""

RDVFI_S1 = replace(RDVFI_S, weights="installed with this package, in the model rdvfi-s1")
"""Of those that RDVFI-S1 alone has."""
