"""GIF frames of 256 colours, each with its own palette, by FFmpeg's filters."""

from fractions import Fraction

import av
import av.filter


class Palette:
    """Reduces frames one at a time.

    Args:
        width: Of the frames.
        height: Of the frames.
        tick: What their times are counted in.
        form: Their format, ``rgb24`` or ``rgba``; pixels that are less than half opaque become transparent.
    """

    def __init__(self, width: int, height: int, tick: Fraction, form: str = "rgb24") -> None:
        graph = av.filter.Graph()
        source = graph.add_buffer(width=width, height=height, format=av.VideoFormat(form), time_base=tick)
        split, make = graph.add("split"), graph.add("palettegen", "stats_mode=single")
        use, sink = graph.add("paletteuse", "new=1:dither=sierra2_4a"), graph.add("buffersink")
        source.link_to(split)
        split.link_to(use, 0, 0)
        split.link_to(make, 1, 0)
        make.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        self._graph, self._tick, self._count, self.form = graph, tick, 0, form

    def reduced(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The same picture in 256 colours."""
        frame.pts, frame.time_base = self._count, self._tick
        self._count += 1
        self._graph.vpush(frame)
        made = self._graph.vpull()
        assert isinstance(made, av.VideoFrame)
        return made
