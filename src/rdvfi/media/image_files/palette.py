"""Frames of 256 colours for GIF, each with its own palette, by FFmpeg's filters."""

from fractions import Fraction

import av
import av.filter


class PaletteQuantizer:
    """Quantizes frames of one size, rgb24 or rgba, to 256 colours; alpha below one half becomes transparent."""

    def __init__(self, width: int, height: int, tick: Fraction, rgb_format: str) -> None:
        graph = av.filter.Graph()
        source = graph.add_buffer(width=width, height=height, format=av.VideoFormat(rgb_format), time_base=tick)
        split, palettegen = graph.add("split"), graph.add("palettegen", "stats_mode=single")
        paletteuse, sink = graph.add("paletteuse", "new=1:dither=sierra2_4a"), graph.add("buffersink")
        source.link_to(split)
        split.link_to(paletteuse, 0, 0)
        split.link_to(palettegen, 1, 0)
        palettegen.link_to(paletteuse, 0, 1)
        paletteuse.link_to(sink)
        graph.configure()
        self._graph, self._tick, self._count, self.rgb_format = graph, tick, 0, rgb_format

    def quantize(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame in 256 colours, in format ``pal8``."""
        frame.pts, frame.time_base = self._count, self._tick
        self._count += 1
        self._graph.vpush(frame)
        quantized = self._graph.vpull()
        assert isinstance(quantized, av.VideoFrame)
        return quantized
