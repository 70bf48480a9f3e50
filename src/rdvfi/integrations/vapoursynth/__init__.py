"""A filter for VapourSynth scripts: `interpolate`. Needs the extra ``vapoursynth``, or the host's own package."""

from rdvfi.integrations.vapoursynth.clip_filter import interpolate

__all__ = ["interpolate"]
