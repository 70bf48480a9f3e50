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


def track_info(
    stream: VideoStream,
    first: av.VideoFrame,
    aspect: Fraction | None,
    options: ReadOptions,
    *,
    alpha: bool,
    **container_fields: Any,
) -> SourceInfo:
    """The `SourceInfo` of a track with this first frame and pixel aspect ratio; the container gives other fields."""
    transposed = Orientation.from_frame(first).transposed
    layout = PixelLayout.from_context(stream.codec_context, aspect)
    aspect = 1 / layout.aspect if transposed and layout.aspect else layout.aspect
    header = muxed_header(stream)
    colour = replace(Colour.from_context(stream.codec_context), siting=read_siting(first.format.name, header))
    rgb = first.format.is_rgb or len(first.format.components) < 3
    return SourceInfo(
        width=first.height if transposed else first.width,
        height=first.width if transposed else first.height,
        colour=colour,
        layout=PixelLayout(layout.chroma, layout.bits, aspect, alpha),
        video_metadata=dict(stream.metadata),
        profile=rgb_profile(side_data(first, Type.ICC_PROFILE)),
        hdr=HdrMetadata.from_frame(first, header),
        spatial=SpatialMetadata.from_frame(first, stream.metadata),
        headroom=options.headroom and not colour.full_range and not rgb,
        **container_fields,
    )


def is_transparent(frame: av.VideoFrame) -> bool:
    """Whether a frame may have transparent pixels.

    Formats with a palette are always decoded as BGRA, so the alpha values of such a frame decide.
    """
    if frame.format.name != "bgra":
        return has_alpha(frame.format)
    return bool(frame.to_ndarray(format="bgra")[..., 3].min() < 255)
