"""A page in the browser to try models on one's own images and clips.

``rdvfi serve`` starts it. Two pictures are dropped and a slider moves through the time between them:
their motion is estimated once (`rdvfi.Interpolator.estimate`), every position of the slider is then drawn
from it. A clip is made smoother in the background of its own session. Needs the extra ``demo``.
"""

from rdvfi.serve.limits import Limits
from rdvfi.serve.server import serve

__all__ = ["Limits", "serve"]
