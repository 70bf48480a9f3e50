"""The Gradio page: its components and their callbacks.

A visitor's pictures, motion and clip are in that visitor's `Session`, which Gradio keeps by the tab that is
open and deletes when it closes. Frames travel inside the answer, as JPEG, and are never files.
"""

import base64
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import cv2
import gradio as gr  # pyright: ignore[reportMissingImports]
import numpy as np

from rdvfi.media.image_files.images import write_png
from rdvfi.media.pixels import Picture
from rdvfi.serve import clip_job
from rdvfi.serve.limits import Limits, split_files
from rdvfi.serve.motion_layers import Layer
from rdvfi.serve.session import Models, OpenedPair, Session
from rdvfi.video.engine import Stopped

_LOGGER = logging.getLogger(__name__)
_ASSETS = Path(__file__).parent / "assets"
_TOLD = (ValueError, OSError, ImportError, MemoryError)
"""What a visitor is told in one line; all else is ours, and goes to the log."""
_LIFETIME = 3600
"""Seconds after which what a visitor left is removed."""

_PROGRESS = gr.Progress()
"""By this default Gradio knows where a function tells how far it is."""

P = ParamSpec("P")
R = TypeVar("R")


def build_page(models: Models, limits: Limits, folder: Path) -> gr.Blocks:
    """The page, ready to be launched.

    Args:
        models: What can be chosen.
        limits: What is refused.
        folder: Where results of clips and saved frames go.
    """
    with gr.Blocks(
        title="rdvfi", analytics_enabled=False, fill_width=False, delete_cache=(_LIFETIME // 6, _LIFETIME)
    ) as page:
        session = gr.State(Session(), time_to_live=_LIFETIME, delete_callback=Session.clear)
        gr.HTML("<h1>Frames between frames</h1><p>Drop two pictures, or a video.</p>", padding=True)
        with gr.Row():
            files = gr.File(
                file_count="multiple", file_types=["image", "video"], label="Two pictures, or a video", elem_id="files"
            )
            model = gr.Dropdown(models.choices, value=models.choices[0], label="Model", elem_id="model")
        about = gr.HTML(elem_id="about", padding=True)
        with gr.Column(visible=False) as pair_view:
            viewer = gr.HTML(html_template=_VIEWER, css_template=_text("viewer.css"), elem_id="viewer")
            time = gr.Slider(0.0, 1.0, 0.5, step=0.005, label="Time between the pictures", elem_id="time")
            with gr.Row():
                names = [layer.value for layer in Layer]
                layer = gr.Radio(names, value=names[0], label="Layer", info=_LEGEND, elem_id="layer")
                paths = gr.Checkbox(label="Paths of points", elem_id="paths")
            with gr.Row():
                save = gr.Button("Save this frame", elem_id="save")
                saved = gr.DownloadButton("saved", elem_id="saved", elem_classes="unseen")
        with gr.Column(visible=False) as clip_view:
            with gr.Row():
                multiplier = gr.Slider(2, 16, 2, step=1, label="Times as many frames", elem_id="multiplier")
                fps = gr.Textbox(label="Or frames per second", placeholder="60, 59.94, 60000/1001", elem_id="fps")
            with gr.Row():
                start = gr.Button("Interpolate", variant="primary", elem_id="start")
                stop = gr.Button("Cancel", elem_id="stop")
            status = gr.HTML(elem_id="status", min_height=110, padding=True)
            swipe = gr.HTML(
                html_template=_text("swipe.html"),
                css_template=_text("swipe.css"),
                js_on_load=_text("swipe.js"),
                before="",
                after="",
                elem_id="swipe",
            )
            result = gr.DownloadButton("Download the smooth video", visible=False, elem_id="result")

        on = Handlers(models, limits, folder)
        quiet = {"api_visibility": "private", "show_progress": "hidden"}
        draw = {"fn": on.draw, "inputs": [session, time, layer, paths], "outputs": viewer, "queue": False, **quiet}
        opened = [about, pair_view, clip_view, viewer, time, layer, paths]
        files.upload(on.open, [session, files, model], opened, api_visibility="private", show_progress_on=about)
        files.clear(on.clear, [session], opened, **quiet)
        model.input(on.choose, [session, model, time, layer, paths], [about, viewer], **quiet)
        time.input(**draw, trigger_mode="always_last")
        layer.input(**draw, trigger_mode="always_last")
        paths.input(**draw, trigger_mode="always_last")
        save.click(on.save, [session, time], saved, **quiet).success(
            None, js="() => setTimeout(() => document.querySelector('#saved').click(), 50)"
        )
        clip = {"concurrency_limit": 1, "concurrency_id": "clip", "api_visibility": "private"}
        begun = start.click(on.begin, [session], None, queue=False, **quiet)
        begun.then(on.interpolate, [session, model, multiplier, fps], [status, swipe, result], **clip,
                   show_progress_on=status)  # fmt: skip
        stop.click(on.stop, [session], None, queue=False, **quiet)
    return page.queue(max_size=limits.waiting, default_concurrency_limit=2)


def launch(page: gr.Blocks, host: str, port: int, limits: Limits) -> str:
    """Start the server in the background; the address of the page."""
    theme = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    _, address, _ = page.launch(
        server_name=host,
        server_port=port or None,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        inbrowser=False,
        ssr_mode=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        max_file_size=int(limits.megabytes * 2**20),
        state_session_capacity=64,
        theme=theme,
        css=_text("page.css"),
    )
    return address


def _text(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


_LEGEND = (
    "Flow: the hue is the direction, the strength the length. Confidence: white is sure. Occlusion: orange is seen "
    "in the first picture alone, blue in the last alone, black in neither."
)
_VIEWER = '<img src="${value}" alt="The frame at this time">'


def told(function: Callable[P, R]) -> Callable[P, R]:
    """What goes wrong is told to the visitor in one line; what is our fault goes to the log as well."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except gr.Error:
            raise
        except _TOLD as error:
            message = " ".join(str(error).split())
        except Exception:
            _LOGGER.exception("a request failed")
            message = "something went wrong on the server; its log says what"
        raise gr.Error(message, title="rdvfi", print_exception=False) from None

    return call


class Handlers:
    """What happens when something is dropped, moved or pressed.

    Args:
        models: What can be chosen.
        limits: What is refused.
        folder: Where files for the visitor go.
    """

    def __init__(self, models: Models, limits: Limits, folder: Path) -> None:
        self._models, self._limits, self._folder = models, limits, folder

    @told
    def open(self, session: Session, paths: list[str] | None, choice: str) -> tuple[Any, ...]:
        """Pictures or a clip were dropped."""
        pictures, clips = split_files([Path(path) for path in paths or []])
        if session.waiting is not None and len(pictures) == 1 and not clips and pictures[0] != session.waiting:
            pictures.insert(0, session.waiting)
        session.clear()
        if len(clips) == 1 and not pictures:
            info = self._limits.check_clip(clips[0])
            session.clip = clips[0]
            line = f"{clips[0].name}: {info.frames} frames of {info.width}x{info.height}"
            return _view(line, clip=True)
        if clips or len(pictures) > 2:
            raise ValueError(f"{len(pictures) + len(clips)} files; drop two pictures, or a single video")
        if len(pictures) == 1:
            session.waiting = pictures[0]
            return _view(f"{pictures[0].name} is here. Now the second picture, please.")
        if not pictures:
            return _view("")
        session.opened = self._limits.read_pair(pictures)
        session.pair = OpenedPair.of(session.opened, self._models, choice)
        return _view(session.pair.line(), picture=session.pair.shown(0.5, Layer.NONE, paths=False))

    def clear(self, session: Session) -> tuple[Any, ...]:
        """The files were taken away."""
        session.clear()
        return _view("")

    @told
    def choose(self, session: Session, choice: str, time: float, layer: str, paths: bool) -> tuple[str, str]:
        """Another model: the same pictures again."""
        if session.opened is None:
            self._models.get(choice)
            return gr.skip(), gr.skip()  # pyright: ignore[reportReturnType]
        session.pair = OpenedPair.of(session.opened, self._models, choice)
        return session.pair.line(), _inline(session.pair.shown(time, Layer(layer), paths=paths))

    @told
    def draw(self, session: Session, time: float, layer: str, paths: bool) -> str:
        """The frame of a time, as the page shows it."""
        return _inline(_pair(session).shown(time, Layer(layer), paths=paths))

    @told
    def save(self, session: Session, time: float) -> str:
        """The frame of a time as a PNG file, without layers and without loss."""
        path = clip_job.own_folder(self._folder) / f"frame-{time:.3f}.png"
        write_png(path, _pair(session).frame(time))
        return str(path)

    def begin(self, session: Session) -> None:
        """The work on the clip is asked for; it may have to wait for that of others, and be cancelled meanwhile."""
        session.stopped.clear()

    @told
    def interpolate(
        self, session: Session, choice: str, multiplier: float, fps: str, progress: gr.Progress = _PROGRESS
    ) -> tuple[Any, Any, Any]:
        """Make the clip smoother."""
        if session.clip is None:
            raise ValueError("there is no video here; drop one first")
        retiming = clip_job.choose_rate(multiplier, fps or "")
        model = self._models.get(choice)

        def tell(done: int, total: int) -> None:
            progress((done, total), desc="Interpolating", unit="pairs of frames")

        try:
            done = clip_job.run(session.clip, retiming, model, self._limits, self._folder, session.stopped, tell)
        except Stopped:
            return "Cancelled; nothing was kept.", gr.skip(), gr.skip()
        swipe = gr.HTML(before=_url(done.before), after=_url(done.after), value=str(done.after))
        return done.line, swipe, gr.DownloadButton(value=done.after, visible=True)

    def stop(self, session: Session) -> None:
        """Stop the work on the clip after the present pair of frames."""
        session.stopped.set()


def _pair(session: Session) -> OpenedPair:
    if session.pair is None:
        raise ValueError("there are no two pictures here (they are kept for an hour); drop them again")
    return session.pair


def _view(line: str, *, picture: Picture | None = None, clip: bool = False) -> tuple[Any, ...]:
    """What is shown: a line, and the view of a pair or of a clip with everything in its first position."""
    return (
        line,
        gr.Column(visible=picture is not None),
        gr.Column(visible=clip),
        "" if picture is None else _inline(picture),
        0.5,
        Layer.NONE.value,
        False,
    )


def _inline(picture: Picture) -> str:
    """A picture as an address that holds it."""
    full_chroma = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    options = (cv2.IMWRITE_JPEG_QUALITY, 92, *full_chroma)
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), options)
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _url(path: Path) -> str:
    """Where the page finds a file of the private folder."""
    return f"/gradio_api/file={path}"
