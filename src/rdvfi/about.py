"""Origin, licences and citation of a component.

Licences of code and of weights often differ: a permissive implementation may load weights whose licence
forbids commercial use. Therefore both are stated separately.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class About:
    """Information that a signature does not contain; None is shown as "not stated".

    Given when an entry is registered::

        @rdvfi.flows.register("mine", about=About(weights="example.org", weights_licence="MIT"))
    """

    licence: str | None = None
    """Licence of the code, as an SPDX expression; by default that of its package."""
    weights: str | None = None
    """Origin of trained weights: a publisher, an address, or how to train them."""
    weights_licence: str | None = None
    """Licence of the weights."""
    citation: str | None = None
    """Authors, title and year of the method that it implements."""
    url: str | None = None
    """An address with more information."""


RDVFI_S = About(
    weights="installed with this package, in the model rdvfi-s",
    weights_licence="Apache-2.0",
    citation="RDVFI. ICLR 2026",
    url="https://openreview.net/forum?id=OiWyf1BNtC",
)
"""The learned parts of RDVFI-S."""

RDVFI_S1 = replace(RDVFI_S, weights="installed with this package, in the model rdvfi-s1")
"""The learned parts that only RDVFI-S1 has."""
