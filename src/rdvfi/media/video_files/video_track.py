"""Properties of a video track, from a file or a pipe."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av.sidedata.sidedata import Type
from av.video.stream import VideoStream

from rdvfi.media.colour import Colour, PixelLayout, has_alpha
from rdvfi.media.image_files.image_header import rgb_profile
from rdvfi.media.metadata.hdr import HdrMetadata
from rdvfi.media.metadata.orientation import Orientation
from rdvfi.media.metadata.side_data import side_data
from rdvfi.media.metadata.spatial import SpatialMetadata
from rdvfi.media.metadata.stream_template import muxed_header
from rdvfi.media.reader import ReadOptions, SourceInfo
from rdvfi.media.video_files.siting import read_siting


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
    turned = Orientation.from_frame(first).transposed
    layout = PixelLayout.from_context(stream.codec_context, aspect)
    header = muxed_header(stream)
    colour = replace(Colour.from_context(stream.codec_context), siting=read_siting(first.format.name, header))
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
        hdr=HdrMetadata.from_frame(first, header),
        spatial=SpatialMetadata.from_frame(first, stream.metadata),
        headroom=options.headroom and not colour.full_range and not rgb,
        **known,
    )


def is_transparent(frame: av.VideoFrame) -> bool:
    """Whether a frame may be transparent: what has a palette is always decoded with alpha, used or not."""
    if frame.format.name != "bgra":
        return has_alpha(frame.format)
    return bool(frame.to_ndarray(format="bgra")[..., 3].min() < 255)
