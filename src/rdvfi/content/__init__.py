"""Rules for content that motion alone does not describe: bars, overlays, illumination changes, static regions,
and cuts that replace only part of the picture.

The rules have no learned weights and work with every backbone and renderer. `Interpolator.estimate` analyses each pair
once and stores the result, a `Content`, in the `Motion`; the renderers apply it (`rdvfi.render.content`). All rules are
tensor code of fixed shapes that never copies a value from the device to the host, so they can be captured in a CUDA
graph and exported. On a CPU, steps that would change nothing are skipped (`rdvfi.content.cpu_shortcuts`).
"""

from rdvfi.content.bars import Bars, find_bars
from rdvfi.content.content_analysis import Content, ContentInputs, analyse_content
from rdvfi.content.overlay import Overlay

__all__ = ["Bars", "Content", "ContentInputs", "Overlay", "analyse_content", "find_bars"]
