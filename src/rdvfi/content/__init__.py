"""What content asks for beyond motion: bars, overlays, light, still ground, cuts beside something still.

Each is a rule, not a network, and works with every backbone and renderer. `rdvfi.interfaces.Motion`
keeps what was found in a pair as a `Content`; `rdvfi.render` draws by it. The rules are tensor code
of fixed shapes that never reads a value from a device, so that estimating and drawing can be captured
as a graph and exported; on a CPU, what is not there is left out (`rdvfi.content.skipping`).
"""

from rdvfi.content.bars import Bars, find_bars
from rdvfi.content.observation import Content, Observed, observe
from rdvfi.content.overlay import Overlay

__all__ = ["Bars", "Content", "Observed", "Overlay", "find_bars", "observe"]
