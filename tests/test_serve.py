"""The page in a real browser, against the library: upload, slide, layers, saving, clips, errors, privacy."""

import base64
import http.client
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

import rdvfi
from browser import PROGRAM, Browser
from rdvfi.interfaces import FlowGrid
from rdvfi.media.image_files.images import read_image, write_png
from rdvfi.media.pixels import to_pixels, to_tensor
from rdvfi.motion.basis import linear
from rdvfi.motion.trajectory.flow_fields import KnotTrajectory
from rdvfi.serve.limits import Limits
from rdvfi.serve.motion_layers import Layer, PointPaths, draw_layer, flow_scale
from rdvfi.serve.session import Models, Session

SIZE = (240, 136)
"""Width and height of the pictures here."""

needs_browser = pytest.mark.skipif(
    not PROGRAM or importlib.util.find_spec("gradio") is None,
    reason="needs Chromium, and Gradio (extra 'demo')",
)


def _pictures(folder: Path) -> tuple[Path, Path]:
    """A smooth texture, and the same moved by (12, 4) pixels."""
    noise = np.random.default_rng(0).random((40, 60, 3), dtype=np.float32)
    wide = cv2.resize(noise, (320, 200), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    paths = folder / "first.png", folder / "last.png"
    for path, (x, y) in zip(paths, ((30, 20), (18, 16)), strict=True):
        part = wide[y : y + SIZE[1], x : x + SIZE[0]]
        write_png(path, np.round(part * 255).astype(np.uint8))
    return paths


def _clip(path: Path, frames: int) -> Path:
    first, last = (read_image(picture) for picture in _pictures(path.parent))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray((first, last)[number % 2], format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# The page


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of its own process, as a user starts it."""
    limits = "--max-megapixels 1 --max-seconds 20 --max-waiting 1 --max-megabytes 1 --threads 1"
    command = [sys.executable, "-m", "rdvfi", "serve", "--port", "0", "--model", "rdvfi-s", "--model", "rdvfi-s1"]
    with subprocess.Popen(
        [*command, *limits.split()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if line.startswith("open "):
                break
        else:
            pytest.fail("".join(said))
        yield said[-1].split()[1].rstrip("/")
        server.terminate()


@pytest.fixture
def page(address: str, tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path) as opened:
        opened.open(address)
        opened.wait(_PAGE_READY)
        yield opened
        elsewhere = [url for url in opened.requests if not url.startswith((address, "data:", "blob:", "about:"))]
        assert not elsewhere, "the page needs the internet"


_FILE_INPUT = "#files input[type=file]"
_PAGE_READY = f"!!document.querySelector('{_FILE_INPUT}')"
_PICTURE_URL = "(document.querySelector('#viewer img') || {src: ''}).src"
_START_SHOWN = "!!(document.querySelector('#start') || {}).offsetParent"
_PICTURE_SHOWN = "!!(document.querySelector('#viewer img') || {}).naturalWidth"


def _text_shown(text: str) -> str:
    return f"document.body.innerText.includes({json.dumps(text)})"


def _displayed_picture(page: Browser) -> np.ndarray:
    data = base64.b64decode(page.run(_PICTURE_URL).partition(",")[2])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)


def _picture_after(page: Browser, act: Callable[[], object]) -> np.ndarray:
    """What is shown after an action, once it is something else than before."""
    before = page.run(_PICTURE_URL)
    act()
    page.wait(f"{_PICTURE_URL} !== {json.dumps(before)}")
    return _displayed_picture(page)


def _expected_frame(paths: tuple[Path, Path], time: float, name: str = "rdvfi-s") -> np.ndarray:
    model = rdvfi.create_model(name)
    first, last = (to_tensor(read_image(p), device=model.device, dtype=model.dtype) for p in paths)
    return to_pixels(model(first, last, [time])[0, 0], deep=False).astype(np.float32)


def _wait_for_file(page: Browser, pattern: str) -> Path:
    until = time.monotonic() + 30
    while not (found := list(page.downloads.glob(pattern))) and time.monotonic() < until:
        page.run("1")
        time.sleep(0.05)
    return found[0]


@needs_browser
def test_two_pictures_a_slider_layers_another_model_and_a_saved_frame(page: Browser, tmp_path: Path) -> None:
    paths = _pictures(tmp_path)
    page.choose_files(_FILE_INPUT, paths[0])  # one after the other, as on a phone
    page.wait(_text_shown("Now the second picture"))
    page.choose_files(_FILE_INPUT, paths[1])
    page.wait(_PICTURE_SHOWN)
    assert np.abs(_displayed_picture(page) - _expected_frame(paths, 0.5)).mean() < 3.0, "beyond what JPEG explains"
    quarter = _picture_after(page, lambda: page.slide("#time input[type=range]", 0.25))
    assert np.abs(quarter - _expected_frame(paths, 0.25)).mean() < 3.0
    assert np.abs(quarter - _expected_frame(paths, 0.75)).mean() > 6.0, "any time would have passed"

    page.click("#save")
    saved = read_image(_wait_for_file(page, "*.png"))
    assert np.abs(saved - _expected_frame(paths, 0.25)).max() <= 1, "saved without loss"

    seen = [quarter]
    for number in (2, 3, 4):
        seen.append(_picture_after(page, lambda n=number: page.click(f"#layer label:nth-of-type({n}) input")))
    _picture_after(page, lambda: page.click("#layer label:nth-of-type(1) input"))
    seen.append(_picture_after(page, lambda: page.click("#paths input")))
    assert all(np.abs(a - b).mean() > 0.5 for a, b in itertools.combinations(seen, 2))
    page.click("#paths input")

    page.run("document.querySelector('#model input').focus()")
    page.wait("document.querySelectorAll('#model [role=option]').length === 2")
    chosen = "[...document.querySelectorAll('[role=option]')].find((o) => o.innerText.includes('rdvfi-s1'))"
    other = _picture_after(
        page, lambda: page.run(f"{chosen}.dispatchEvent(new MouseEvent('mousedown', {{bubbles: true}}))")
    )
    assert np.abs(other - _expected_frame(paths, 0.25, "rdvfi-s1")).mean() < 3.0


@needs_browser
def test_a_clip_becomes_smoother_beside_the_original_on_a_phone(page: Browser, address: str, tmp_path: Path) -> None:
    page.open(address, width=375, height=800, phone=True)
    page.wait(_PAGE_READY)
    page.choose_files(_FILE_INPUT, _clip(tmp_path / "clip.mkv", 4))  # not a container that browsers play
    page.wait(_text_shown("4 frames of 240x136"))
    page.wait(_START_SHOWN)
    page.run("document.querySelector('#fps textarea, #fps input').focus()")
    page.send("Input.insertText", text="25")
    page.click("#start")
    page.wait("[...document.querySelectorAll('#swipe video')].filter((v) => v.currentTime > 0.1).length === 2")
    of_each = "['before', 'after'].map((n) => document.querySelector('#swipe .' + n)).map"
    before, after = page.run(f"{of_each}((v) => [v.duration, v.videoWidth])")
    assert before[1] == after[1] == SIZE[0]
    assert after[0] == pytest.approx(before[0], abs=0.05)
    page.slide("#swipe .place", 20)
    assert page.run("document.querySelector('#swipe .before').style.clipPath") == "inset(0px 80% 0px 0px)"
    assert page.run("document.documentElement.scrollWidth") <= 375
    page.click("#result")
    with av.open(str(_wait_for_file(page, "*.mp4"))) as made:
        assert made.streams.video[0].average_rate == 25
        assert sum(1 for _ in made.decode(video=0)) == 10


@needs_browser
def test_work_on_a_clip_is_cancelled_and_whoever_finds_the_queue_full_is_told(
    page: Browser, address: str, tmp_path: Path
) -> None:
    clip = _clip(tmp_path / "clip.mp4", 60)
    page.choose_files(_FILE_INPUT, clip)
    page.wait(_text_shown("60 frames of 240x136"))
    page.wait(_START_SHOWN)
    page.click("#start")
    page.wait(_text_shown("pairs of frames"))
    button = "window.gradio_config.components.find((c) => c.props.elem_id === 'start').id"
    found = "window.gradio_config.dependencies.find"
    asked = page.run(f"{found}((d) => d.targets.some((t) => t[0] === {button})).id")
    config = page.run(f"{found}((d) => d.trigger_after === {asked}).id")
    answers = [_join_queue(address, config, [None, "rdvfi-s", 2, ""]) for _ in range(3)]
    assert answers[0][0] == 200, "one may wait"
    assert answers[-1][0] == 503
    assert "full" in answers[-1][1].lower()
    page.click("#stop")
    page.wait(_text_shown("Cancelled; nothing was kept."))


def test_work_that_is_cancelled_while_it_waits_is_not_done(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    from rdvfi.serve.page import Handlers

    handlers, session = Handlers(Models(["rdvfi-s"]), Limits(), tmp_path), Session()
    session.clip = _clip(tmp_path / "clip.mp4", 4)
    handlers.begin(session)
    handlers.cancel(session)
    assert handlers.interpolate(session, "rdvfi-s", 2.0, "")[0] == "Cancelled; nothing was kept."
    handlers.begin(session)
    assert "7 frames" in handlers.interpolate(session, "rdvfi-s", 2.0, "")[0]


def _join_queue(address: str, function: int, data: list[object]) -> tuple[int, str]:
    """Ask for some work without the page: status and text of the answer."""
    body = {"data": data, "fn_index": function, "session_hash": os.urandom(6).hex()}
    return _request(address, "POST", "/gradio_api/queue/join", json.dumps(body))


def _request(address: str, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=30)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    connection.close()
    return answer.status, text


@needs_browser
def test_what_is_wrong_is_one_line_and_the_page_goes_on(page: Browser, address: str, tmp_path: Path) -> None:
    first, last = _pictures(tmp_path)
    text, small, large = tmp_path / "text.png", tmp_path / "small.png", tmp_path / "large.png"
    text.write_text("no picture")
    write_png(small, np.zeros((40, 50, 3), np.uint8))
    write_png(large, np.zeros((1100, 1000, 3), np.uint8))
    huge = tmp_path / "huge.png"
    huge.write_bytes(bytes(2**21))
    film = tmp_path / "film.mp4"
    film.write_bytes(b"no film")
    for files, message in (
        ((first, text), "text.png is not an image that can be read, or is damaged"),
        ((first, small), "the pictures are 240x136 and 50x40 pixels; both must have the same size"),
        ((first, large), "large.png is 1000x1100 pixels (1.1 megapixels); at most 1 megapixels are taken here"),
        ((first, last, small), "3 files; drop two pictures, or a single video"),
        ((huge,), 'exceed the maximum allowed size of 1.0 Mb: "huge.png"'),
        ((film,), "film.mp4 is not a video that can be read"),
        ((_clip(tmp_path / "long.mp4", 230),), "long.mp4 lasts 22.9 s; at most 20 s are taken here"),
    ):
        page.open(address)
        page.wait(_PAGE_READY)
        page.choose_files(_FILE_INPUT, *files)
        page.wait(_text_shown(message))
        assert not page.run(_text_shown("/tmp/")), "where it lies on the server is nobody's business"
    page.open(address)
    page.wait(_PAGE_READY)
    page.choose_files(_FILE_INPUT, first, last)
    page.wait(_PICTURE_SHOWN)


@needs_browser
def test_no_file_of_the_server_can_be_read(page: Browser, address: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    _pictures(tmp_path)[0].rename(secret)
    own = Path(rdvfi.__file__)
    for path in (secret, own, "/etc/passwd", "pyproject.toml", "../../../../etc/passwd", "/proc/self/environ"):
        for quoted in (str(path), urllib.parse.quote(str(path), safe="")):
            status, text = _request(address, "GET", f"/gradio_api/file={quoted}")
            assert status in (400, 403, 404), (path, status)
            assert "root:" not in text
    # A file that was never uploaded, given to the page as if it had been.
    opened = page.run("window.gradio_config.dependencies.find((d) => d.targets.some((t) => t[1] === 'upload')).id")
    for path in (secret, "/etc/passwd"):
        forged = {"path": str(path), "meta": {"_type": "gradio.FileData"}, "orig_name": "a.png"}
        body = {"data": [None, [forged, forged], "rdvfi-s"], "session_hash": "forged", "fn_index": opened}
        status, text = _request(address, "POST", "/gradio_api/run/predict", json.dumps(body))
        assert status >= 400 or "error" in text, text[:300]
        assert "data:image" not in text


# What it is made of


def _uniform_motion(flow: tuple[float, float]) -> KnotTrajectory:
    """Everything moves by one shift, uniformly; flows at a time lead back along it."""
    knots = torch.tensor((0.0, 1.0))
    shift = torch.tensor(flow)[None, None, :, None, None].expand(1, 2, 2, 24, 40)
    weight = knots[None, :, None, None, None]
    return KnotTrajectory(-weight * shift, (1.0 - weight) * shift, knots, linear(), FlowGrid.TARGET)


def test_paths_are_those_of_the_points_in_pixels_of_the_frame() -> None:
    paths = PointPaths.from_trajectory(_uniform_motion((3.0, -1.0)), (240, 400), torch.device("cpu"))
    assert len(paths.points) > 100
    along = paths.points - paths.points[:, :1]
    expected = paths.times[None, :, None] * np.array((30.0, -10.0))
    np.testing.assert_allclose(along, np.broadcast_to(expected, along.shape), atol=1e-3)
    assert not len(PointPaths.from_trajectory(_uniform_motion((0.0, 0.0)), (240, 400), torch.device("cpu")).points), (
        "what rests has no path"
    )


def test_layers_show_the_flow_and_what_is_occluded() -> None:
    picture = np.full((48, 80, 3), 120, np.uint8)
    half = torch.tensor([0.5])
    right, up = _uniform_motion((3.0, 0.0)), _uniform_motion((0.0, -3.0))
    longest = flow_scale(right, half)
    assert longest == pytest.approx(3.0)
    shown = [draw_layer(picture, motion, Layer.FLOW, half, longest) for motion in (right, up)]
    assert all(np.ptp(each.reshape(-1, 3), axis=0).max() <= 1 for each in shown), "one flow, one colour"
    assert np.abs(shown[0][0, 0].astype(int) - shown[1][0, 0]).max() > 60, "another direction, another hue"
    seen = draw_layer(picture, right, Layer.OCCLUSION, half, longest)
    assert (seen[20:28, 30:50] == picture[20:28, 30:50]).all(), "what both frames show is left alone"
    assert seen[24, 0].tolist() != seen[24, 79].tolist() != picture[24, 79].tolist(), "borders come in and go out"
    assert draw_layer(picture, right, Layer.NONE, half, longest) is picture


def test_limits_say_which_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"seconds is 0.0; it must be greater than 0"):
        Limits(seconds=0.0)


def test_a_picture_that_is_too_small_is_named(tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.png"
    write_png(tiny, np.zeros((20, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"^tiny\.png is 8x20 pixels; at least 16 each way are needed$"):
        Limits().read_pair((tiny, tiny))
