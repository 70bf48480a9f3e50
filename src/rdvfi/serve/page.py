"""The Gradio page: its components and their callbacks.

The pictures, motion and clip of a visitor are in a `Session`, which Gradio keeps for each open tab and deletes when
the tab closes. Displayed frames travel inside the response, as JPEG, and are never files.
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
from rdvfi.serve.limits import Limits, split_pictures_and_clips
from rdvfi.serve.motion_layers import Layer
from rdvfi.serve.session import Models, OpenedPair, Session
from rdvfi.video.engine import Stopped

_LOGGER = logging.getLogger(__name__)
_ASSETS = Path(__file__).parent / "assets"
_VISITOR_ERRORS = (ValueError, OSError, ImportError, MemoryError)
"""Errors whose message the visitor sees; others are logged."""
_LIFETIME_SECONDS = 3600
"""Seconds after which files and state of a visitor are removed."""

_PROGRESS = gr.Progress()
"""As a parameter's default, it makes Gradio pass a progress tracker."""

P = ParamSpec("P")
R = TypeVar("R")


def build_page(models: Models, limits: Limits, folder: Path) -> gr.Blocks:
    """The page, ready to be launched.

    Args:
        models: Models to choose from.
        limits: Limits of uploads and output.
        folder: Folder of saved frames and interpolated clips.
    """
    lifetime = (_LIFETIME_SECONDS // 6, _LIFETIME_SECONDS)
    with gr.Blocks(title="rdvfi", analytics_enabled=False, fill_width=False, delete_cache=lifetime) as page:
        session = gr.State(Session(), time_to_live=_LIFETIME_SECONDS, delete_callback=Session.clear)
        gr.HTML("<h1>Frames between frames</h1><p>Drop two pictures, or a video.</p>", padding=True)
        with gr.Row():
            files = gr.File(
                file_count="multiple", file_types=["image", "video"], label="Two pictures, or a video", elem_id="files"
            )
            model = gr.Dropdown(models.choices, value=models.choices[0], label="Model", elem_id="model")
        about = gr.HTML(elem_id="about", padding=True)
        pair, clip = _PairView(), _ClipView()
        handlers = Handlers(models, limits, folder)
        view = [about, pair.column, clip.column, pair.viewer, pair.time, pair.layer, pair.paths]
        files.upload(handlers.open, [session, files, model], view, api_visibility="private", show_progress_on=about)
        files.clear(handlers.clear, [session], view, **_QUIET)
        model.input(
            handlers.choose, [session, model, pair.time, pair.layer, pair.paths], [about, pair.viewer], **_QUIET
        )
        pair.connect(handlers, session)
        clip.connect(handlers, session, model)
    return page.queue(max_size=limits.waiting, default_concurrency_limit=2)


_QUIET = {"api_visibility": "private", "show_progress": "hidden"}


class _PairView:
    """Components for two pictures: the frame, the time slider, layers and saving."""

    def __init__(self) -> None:
        with gr.Column(visible=False) as self.column:
            self.viewer = gr.HTML(html_template=_VIEWER, css_template=_read_asset("viewer.css"), elem_id="viewer")
            self.time = gr.Slider(0.0, 1.0, 0.5, step=0.005, label="Time between the pictures", elem_id="time")
            names = [layer.value for layer in Layer]
            self.layer = gr.Radio(names, value=names[0], label="Layer", info=_LEGEND, elem_id="layer")
            self.paths = gr.Checkbox(label="Paths of points", elem_id="paths")
            with gr.Row():
                self._save = gr.Button("Save this frame", elem_id="save")
                self._saved = gr.DownloadButton("saved", elem_id="saved", elem_classes="unseen")

    def connect(self, handlers: "Handlers", session: gr.State) -> None:
        """Draw when the time, the layer or the paths change; save when the button is pressed."""
        inputs = [session, self.time, self.layer, self.paths]
        for component in (self.time, self.layer, self.paths):
            component.input(handlers.draw, inputs, self.viewer, queue=False, trigger_mode="always_last", **_QUIET)
        self._save.click(handlers.save, [session, self.time], self._saved, **_QUIET).success(
            None, js="() => setTimeout(() => document.querySelector('#saved').click(), 50)"
        )


class _ClipView:
    """Components for a video: the rate, start and cancel, and the comparison of both versions."""

    def __init__(self) -> None:
        with gr.Column(visible=False) as self.column:
            with gr.Row():
                self._multiplier = gr.Slider(
                    2, 16, 2, step=1, label="Times as many frames", min_width=240, elem_id="multiplier"
                )
                placeholder = "60, 59.94, 60000/1001"
                self._fps = gr.Textbox(
                    label="Or frames per second", placeholder=placeholder, min_width=240, elem_id="fps"
                )
            with gr.Row():
                self._start = gr.Button("Interpolate", variant="primary", elem_id="start")
                self._cancel = gr.Button("Cancel", elem_id="stop")
            self._status = gr.HTML(elem_id="status", min_height=110, padding=True)
            self._swipe = gr.HTML(
                html_template=_read_asset("swipe.html"),
                css_template=_read_asset("swipe.css"),
                js_on_load=_read_asset("swipe.js"),
                before="",
                after="",
                elem_id="swipe",
            )
            self._result = gr.DownloadButton("Download the smooth video", visible=False, elem_id="result")

    def connect(self, handlers: "Handlers", session: gr.State, model: gr.Dropdown) -> None:
        """Interpolate one clip at a time when asked for; cancelling does not wait in the queue."""
        self._start.click(handlers.begin, [session], None, queue=False, **_QUIET).then(
            handlers.interpolate,
            [session, model, self._multiplier, self._fps],
            [self._status, self._swipe, self._result],
            concurrency_limit=1,
            concurrency_id="clip",
            api_visibility="private",
            show_progress_on=self._status,
        )
        self._cancel.click(handlers.cancel, [session], None, queue=False, **_QUIET)


def launch(page: gr.Blocks, host: str, port: int, limits: Limits) -> str:
    """Start the server in the background and return the address of the page."""
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
        css=_read_asset("page.css"),
    )
    return address


def _read_asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


_LEGEND = (
    "Flow: the hue is the direction, the strength the length. Confidence: white is sure. Occlusion: orange is seen "
    "in the first picture alone, blue in the last alone, black in neither."
)
_VIEWER = '<img src="${value}" alt="The frame at this time">'


def report_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Show errors to the visitor in one line, and log unexpected ones."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except gr.Error:
            raise
        except _VISITOR_ERRORS as error:
            message = " ".join(str(error).split())
        except Exception:
            _LOGGER.exception("a request failed")
            message = "something went wrong on the server; its log says what"
        raise gr.Error(message, title="rdvfi", print_exception=False) from None

    return call


class Handlers:
    """The callbacks of the page; see `build_page` for the arguments."""

    def __init__(self, models: Models, limits: Limits, folder: Path) -> None:
        self._models, self._limits, self._folder = models, limits, folder

    @report_errors
    def open(self, session: Session, paths: list[str] | None, choice: str) -> tuple[Any, ...]:
        """Open dropped pictures or a clip."""
        pictures, clips = split_pictures_and_clips([Path(path) for path in paths or []])
        if (
            session.first_picture is not None
            and len(pictures) == 1
            and not clips
            and pictures[0] != session.first_picture
        ):
            pictures.insert(0, session.first_picture)
        session.clear()
        if len(clips) == 1 and not pictures:
            info = self._limits.check_clip(clips[0])
            session.clip = clips[0]
            line = f"{clips[0].name}: {info.frames} frames of {info.width}x{info.height}"
            return _view_state(line, clip=True)
        if clips or len(pictures) > 2:
            raise ValueError(f"{len(pictures) + len(clips)} files; drop two pictures, or a single video")
        if len(pictures) == 1:
            session.first_picture = pictures[0]
            return _view_state(f"{pictures[0].name} is here. Now the second picture, please.")
        if not pictures:
            return _view_state("")
        session.pictures = self._limits.read_pair(pictures)
        session.pair = OpenedPair.of(session.pictures, self._models, choice)
        return _view_state(session.pair.summary(), picture=session.pair.display(0.5, Layer.NONE, paths=False))

    def clear(self, session: Session) -> tuple[Any, ...]:
        """Close the pictures or the clip."""
        session.clear()
        return _view_state("")

    @report_errors
    def choose(self, session: Session, choice: str, time: float, layer: str, paths: bool) -> tuple[str, str]:
        """Estimate the motion again with another model."""
        if session.pictures is None:
            self._models.get(choice)
            return gr.skip(), gr.skip()  # pyright: ignore[reportReturnType]
        session.pair = OpenedPair.of(session.pictures, self._models, choice)
        return session.pair.summary(), _data_url(session.pair.display(time, Layer(layer), paths=paths))

    @report_errors
    def draw(self, session: Session, time: float, layer: str, paths: bool) -> str:
        """The displayed frame at a time."""
        return _data_url(_require_pair(session).display(time, Layer(layer), paths=paths))

    @report_errors
    def save(self, session: Session, time: float) -> str:
        """The frame at a time as a lossless PNG file, without layers."""
        path = clip_job.new_private_folder(self._folder) / f"frame-{time:.3f}.png"
        write_png(path, _require_pair(session).frame(time))
        return str(path)

    def begin(self, session: Session) -> None:
        """Allow the interpolation of the clip, which may wait in the queue and be cancelled meanwhile."""
        session.cancelled.clear()

    @report_errors
    def interpolate(
        self, session: Session, choice: str, multiplier: float, fps: str, progress: gr.Progress = _PROGRESS
    ) -> tuple[Any, Any, Any]:
        """Interpolate the clip."""
        if session.clip is None:
            raise ValueError("there is no video here; drop one first")
        retiming = clip_job.choose_rate(multiplier, fps or "")
        model = self._models.get(choice)

        def tell(done: int, total: int) -> None:
            progress((done, total), desc="Interpolating", unit="pairs of frames")

        try:
            done = clip_job.interpolate_clip(
                session.clip, retiming, model, self._limits, self._folder, session.cancelled, tell
            )
        except Stopped:
            return "Cancelled; nothing was kept.", gr.skip(), gr.skip()
        swipe = gr.HTML(before=_file_url(done.before), after=_file_url(done.after), value=str(done.after))
        return done.summary, swipe, gr.DownloadButton(value=done.after, visible=True)

    def cancel(self, session: Session) -> None:
        """Stop the interpolation of the clip after the present pair of frames."""
        session.cancelled.set()


def _require_pair(session: Session) -> OpenedPair:
    if session.pair is None:
        raise ValueError("there are no two pictures here (they are kept for an hour); drop them again")
    return session.pair


def _view_state(line: str, *, picture: Picture | None = None, clip: bool = False) -> tuple[Any, ...]:
    """The state of the components after opening: a line, and the view of a pair or a clip with its defaults."""
    return (
        line,
        gr.Column(visible=picture is not None),
        gr.Column(visible=clip),
        "" if picture is None else _data_url(picture),
        0.5,
        Layer.NONE.value,
        False,
    )


def _data_url(picture: Picture) -> str:
    """A picture as a data URL of a JPEG."""
    full_chroma = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    options = (cv2.IMWRITE_JPEG_QUALITY, 92, *full_chroma)
    encoded, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), options)
    assert encoded
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _file_url(path: Path) -> str:
    """The address of a file of the private folder."""
    return f"/gradio_api/file={path}"
