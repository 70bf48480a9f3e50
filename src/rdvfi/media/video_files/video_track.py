"""Properties of a video track, from a file or a pipe."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av.sidedata.sidedata import Type
from av.video.stream import VideoStream

from rdvfi.media.colour import Colour, PixelLayout, has_alpha
from rdvfi.media.image_files.image_header import rgb_profile
from rdvfi.media.metadata.hdr import Brightness
from rdvfi.media.metadata.orientation import Orientation
from rdvfi.media.metadata.side_data import side_data
from rdvfi.media.metadata.spatial import Spatial
from rdvfi.media.metadata.stream_template import header_of
from rdvfi.media.reader import ReadOptions, SourceInfo
from rdvfi.media.video_files.siting import siting_of


def describe_track(
    stream: VideoStream,
    first: av.VideoFrame,
    aspect: Fraction | None,
    options: ReadOptions,
    *,
    alpha: bool,
    **known: Any,
) -> SourceInfo:
    """The source that a track is.

    Args:
        stream: The track.
        first: Its first frame.
        aspect: How wide its pixels are.
        options: How it is read.
        alpha: Whether frames are RGBA.
        **known: Fields of `SourceInfo` that its container says.
    """
    turned = Orientation.of(first).transposed
    layout = PixelLayout.of(stream.codec_context, aspect)
    header = header_of(stream)
    colour = replace(Colour.of(stream.codec_context), siting=siting_of(first.format.name, header))
    rgb = first.format.is_rgb or len(first.format.components) < 3
    return SourceInfo(
        width=first.height if turned else first.width,
        height=first.width if turned else first.height,
        colour=colour,
        layout=PixelLayout(
            layout.chroma, layout.bits, layout.aspect and (1 / layout.aspect if turned else layout.aspect), alpha
        ),
        video_metadata=dict(stream.metadata),
        profile=rgb_profile(side_data(first, Type.ICC_PROFILE)),
        brightness=Brightness.of(first, header),
        spatial=Spatial.of(first, stream.metadata),
        headroom=options.headroom and not colour.full_range and not rgb,
        **known,
    )


def seen_through(frame: av.VideoFrame) -> bool:
    """Whether a frame may be transparent: what has a palette is always decoded with alpha, used or not."""
    if frame.format.name != "bgra":
        return has_alpha(frame.format)
    return bool(frame.to_ndarray(format="bgra")[..., 3].min() < 255)
