"""Films whose frames go to the model and back as planes: what comes out is what the processor's conversion gives.

On a CPU the same code runs, without streams; `test_streams_order_copies_and_work` needs a GPU.
"""

import contextlib
import gc
import itertools
import logging
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import clips
import rdvfi
from rdvfi.graph_watch import Watch
from rdvfi.media.metadata.orientation import Orientation
from rdvfi.media.planes import PlaneFormat, Planes, PlaneTarget
from rdvfi.media.reader import SourceFrame, open_source
from rdvfi.media.timestamps import Stamp
from rdvfi.media.video_files import codecs
from rdvfi.media.video_files.hardware import create_hwaccel
from rdvfi.video import interpolate_video
from rdvfi.video.frame_transfer import DeviceFrame, FrameTransfer
from rdvfi.video.side_stream import CopiedTensors, SideStream
from rdvfi.video.video_job import VideoJob

BT709 = [0.2126, 0.0722, 16.0, 128.0, 219.0, 224.0, 0.0, 0.5]


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    """Real motion and real warping, without a network."""
    return rdvfi.build("rdvfi_s", "backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp").requires_grad_(
        False
    )


@pytest.fixture
def uses_device_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VideoJob, "uses_device_planes", lambda *_: True)


def _run(source: Path, destination: Path, model, **options):
    return interpolate_video(source, destination, model=model, allow_untrained=True, multiplier=2, **options)


def _planes(path: Path) -> list[list[np.ndarray]]:
    """What the file holds, not converted."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [[np.from_dlpack(plane).astype(int) for plane in frame.planes] for frame in frames]


@pytest.mark.parametrize(
    ("pixel_format", "options", "clip"),
    [
        ("yuv420p", {}, {}),
        ("yuv420p10le", {}, {"rotation": 90}),
        ("yuv444p", {"pix_fmt": "yuv422p"}, {"colour": (5, 5, 5, 2)}),
    ],
)
def test_films_are_those_of_the_processor_within_a_level(tmp_path, model, monkeypatch, pixel_format, options, clip):
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64), pixel_format=pixel_format, **clip)
    _run(tmp_path / "in.mp4", tmp_path / "plain.y4m", model, codec="raw", **options)
    used = []

    def uses_device_planes(job: VideoJob, device: torch.device) -> bool:
        used.append(device)
        return True

    monkeypatch.setattr(VideoJob, "uses_device_planes", uses_device_planes)
    _run(tmp_path / "in.mp4", tmp_path / "planes.y4m", model, codec="raw", **options)
    assert used
    plain, planes = _planes(tmp_path / "plain.y4m"), _planes(tmp_path / "planes.y4m")
    assert len(plain) == len(planes) == 5
    for number, (one, other) in enumerate(zip(plain, planes, strict=True)):
        for a, b in zip(one, other, strict=True):
            apart = np.abs(a - b)[2:-2, 2:-2]
            # Both conversions round twice; new frames are those of images that differ by rounding.
            assert apart.max() <= (2 if number % 2 == 0 else 6)
            assert apart.mean() < 0.5
            assert abs((a - b).mean()) < 0.2


@pytest.mark.filterwarnings("ignore::rdvfi.video.LowConfidenceWarning")
@pytest.mark.usefixtures("uses_device_planes")
def test_planes_serve_masks_sheets_cuts_and_curves(tmp_path, model) -> None:
    """Whoever asks a frame for its pixels gets them; a curve of speed reads the file again."""
    clips.write_clip(tmp_path / "in.mp4", clips.two_scenes(each=3))
    report = _run(
        tmp_path / "in.mp4",
        tmp_path / "out.mp4",
        model,
        contact_sheet=tmp_path / "sheet.png",
        mask="auto",
        dedup="auto",
        crop_bars=True,
        on_scene_change="hold_previous",
    )
    assert report.frames_written == 11
    assert len(report.uncertain) == 1
    assert (tmp_path / "sheet.png").exists()
    speed = [(0.0, 2.0), (0.6, -1.0)]
    options = {"model": model, "allow_untrained": True, "speed": speed, "target_fps": 12}
    assert interpolate_video(tmp_path / "in.mp4", tmp_path / "back.mp4", **options).frames_written > 2


@pytest.mark.usefixtures("uses_device_planes")
@pytest.mark.parametrize("name", ["frames", "out.gif", "out.webm"])
def test_outputs_without_planes_get_pixels(tmp_path, model, name: str) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64), sound=False)
    assert _run(tmp_path / "in.mp4", tmp_path / name, model).frames_written == 5
    assert len(list(open_source(tmp_path / name).frames())) == 5


def test_frames_that_are_not_finite_are_refused(tmp_path, model, monkeypatch) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64), sound=False)
    monkeypatch.setattr(VideoJob, "uses_device_planes", lambda *_: True)
    monkeypatch.setattr(model.renderer, "forward", lambda a, *_: torch.full_like(a[:, None], float("nan")))
    with pytest.raises(ValueError, match="not finite"):
        _run(tmp_path / "in.mp4", tmp_path / "out.mp4", model)
    assert not (tmp_path / "out.mp4").exists()


def test_conversions_on_a_device_stay_there_and_start_three_kernels() -> None:
    """On "meta", which has shapes and no values, as `test_launches` traces the model."""
    with Watch("meta") as watch:
        stored = tuple(torch.empty(size, device="meta", dtype=torch.uint8) for size in ((64, 96), (32, 48), (32, 48)))
        image = Planes(stored, BT709, Orientation(), deep=False).rgb(torch.float16)
        form = PlaneFormat.from_name("p010le")
        assert form is not None
        numbers = PlaneTarget("p010le", form, 64, 96, BT709).samples(image[0])
    assert image.shape == (1, 3, 64, 96)
    assert numbers.shape == (64 * 96 * 3 // 2,)
    assert numbers.dtype == torch.uint16
    assert watch.problems == []
    assert sum(watch.launches.values()) == 3


def test_a_machine_without_nvdec_decodes_on_the_processor_and_says_why(tmp_path, caplog) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(2, 48, 64), sound=False)
    if torch.cuda.is_available():
        pytest.skip("there may be one here")
    with caplog.at_level(logging.WARNING, "rdvfi"):
        assert create_hwaccel(tmp_path / "in.mp4", torch.device("cuda", 0)) is None
    (record,) = caplog.records
    assert "in.mp4 is decoded on the processor, not on cuda:0: " in record.message
    assert "\n" not in record.message
    assert "moov" not in record.message  # the file is sound
    source = open_source(tmp_path / "in.mp4")
    with caplog.at_level(logging.WARNING, "rdvfi"):
        source.use_device(torch.device("cuda", 0))
    frames = list(source.frames())
    assert all(frame.planes is not None for frame in frames)
    assert len(caplog.records) == 2


def test_a_codec_that_no_device_decodes_is_decoded_on_the_processor(tmp_path, caplog) -> None:
    clips.write_clip(tmp_path / "in.mkv", clips.moving(2, 48, 64), sound=False, codec="ffv1")
    with caplog.at_level(logging.WARNING, "rdvfi"):
        assert create_hwaccel(tmp_path / "in.mkv", torch.device("cuda", 0)) is None
    (record,) = caplog.records
    assert "in.mkv is decoded on the processor, not on cuda:0: " in record.message


def test_a_frame_that_a_device_decoded_is_let_go_at_once() -> None:
    """Not when Python looks for cycles: a film would fill the memory of the device."""
    with FakeTensorMode():
        stored = tuple(torch.empty(size, dtype=torch.uint8, device="cuda") for size in ((64, 96), (32, 48), (32, 48)))
    frame = SourceFrame(
        lambda: pytest.fail("the frame of the decoder is let go"),
        Stamp(Fraction(0), Fraction(1)),
        Planes(stored, BT709, Orientation(), deep=False),
    )
    sent = DeviceFrame(frame, CopiedTensors(stored))
    assert sent.device_planes().planes is stored
    gone = weakref.ref(sent)
    gc.disable()
    try:
        del sent
        assert gone() is None
    finally:
        gc.enable()


def test_codec_auto_is_nvenc_where_it_opens_else_the_usual_one_with_a_word(tmp_path, model, caplog, monkeypatch):
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64), sound=False)
    codecs.find_nvenc_codec.cache_clear()
    with caplog.at_level(logging.WARNING, "rdvfi"):
        _run(tmp_path / "in.mp4", tmp_path / "out.mp4", model, codec="auto")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    told = [record.message for record in caplog.records if "codec auto" in record.message]
    works = codecs.find_nvenc_codec(".mp4", deep=False) is not None
    assert len(told) == (0 if works else 1)
    # Where encoders of NVENC open, as here one that does is put in their place, they are chosen by depth and suffix.
    monkeypatch.setattr(codecs, "check_encoder", lambda *_: None)
    codecs.find_nvenc_codec.cache_clear()
    names = {
        (suffix, deep): codecs.find_nvenc_codec(suffix, deep=deep)
        for suffix in (".mp4", ".webm")
        for deep in (False, True)
    }
    codecs.find_nvenc_codec.cache_clear()
    assert names[".mp4", False] == "h264-nvenc"
    assert names[".mp4", True] == "hevc-nvenc"
    assert names[".webm", False] == "av1-nvenc"
    assert codecs.find_nvenc_codec(".avi", deep=True) is None


@pytest.mark.parametrize("name", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
def test_encoders_are_known_by_their_own_names(name: str) -> None:
    assert codecs.choose_codec(name, Path("out.mp4")).encoder == name


def test_hwaccel_is_auto_or_off(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(2, 48, 64), sound=False)
    with pytest.raises(ValueError, match="hwaccel is 'cuda'; it must be auto or off"):
        _run(tmp_path / "in.mp4", tmp_path / "out.mp4", model, hwaccel="cuda")
    _run(tmp_path / "in.mp4", tmp_path / "out.mp4", model, hwaccel="off")


@pytest.mark.gpu
def test_streams_order_copies_and_work() -> None:
    """Hundreds of frames there and back, each made by slow work of another stream than those of the copies."""
    device = torch.device("cuda")
    incoming, outgoing = SideStream(device), SideStream(device)
    numbers = [torch.full((1080, 1920), k, dtype=torch.uint8) for k in range(100)]
    fetched = []
    for number in numbers:
        (there,) = incoming.send((number,), device).on_current_stream()
        torch.cuda._sleep(100_000)
        fetched.append(outgoing.fetch((there + 1,)))
        del there
    for before, made in zip(numbers, fetched, strict=True):
        assert torch.equal(made.wait()[0], before + 1)


@pytest.mark.gpu
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_a_film_on_a_gpu_equals_that_of_the_processor(tmp_path, model, pixel_format: str) -> None:
    """Decoded there or not, as the machine can."""
    clips.write_clip(tmp_path / "in.mp4", clips.moving(6, 256, 320), pixel_format=pixel_format)
    _run(tmp_path / "in.mp4", tmp_path / "plain.y4m", model, codec="raw", hwaccel="off")
    there = rdvfi.create_model("rdvfi-s", device="cuda").float()
    _run(tmp_path / "in.mp4", tmp_path / "planes.y4m", there, codec="raw")
    pairs = zip(_planes(tmp_path / "plain.y4m"), _planes(tmp_path / "planes.y4m"), strict=True)
    for one, other in itertools.islice(pairs, 0, None, 2):
        for a, b in zip(one, other, strict=True):
            assert np.abs(a - b)[4:-4, 4:-4].max() <= 2
    frame = SourceFrame(np.zeros((16, 16, 3), np.uint8), Stamp(0, 1))  # pyright: ignore[reportArgumentType]
    assert FrameTransfer(torch.device("cuda"), torch.float16, deep=False).to_image(frame).is_cuda


class Queue:
    """Notes what a CUDA stream is told, where there is none."""

    told: list[str]
    named: list[str]

    def __init__(self, name: str | torch.device) -> None:
        self.name = name if isinstance(name, str) else f"side {len(self.named)}"
        self.device = torch.device("cuda", 0)
        self.named.append(self.name)

    def wait_stream(self, other: "Queue") -> None:
        self.told.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: str) -> None:
        self.told.append(f"{self.name} waits for {event}")

    def record_event(self) -> str:
        self.told.append(f"{self.name} marks")
        return f"mark of {self.name}"


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stream that is current, as torch keeps it, and a note of every copy by the stream that does it."""
    current, told = [], []
    monkeypatch.setattr(Queue, "told", told, raising=False)
    monkeypatch.setattr(Queue, "named", [], raising=False)
    default = Queue("default")
    copy = torch.Tensor.copy_

    @contextlib.contextmanager
    def stream(chosen: Queue):
        current.append(chosen)
        yield
        current.pop()

    def noted(self: torch.Tensor, other: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        told.append(f"{(current or [default])[-1].name} copies")
        return copy(self, other, non_blocking)

    monkeypatch.setattr(torch.cuda, "Stream", Queue)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: (current or [default])[-1])
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, by: told.append(f"kept for {by.name}"))
    monkeypatch.setattr(torch.Tensor, "copy_", noted)
    return told


def test_streams_are_told_to_wait_in_the_right_order(queues: list[str]) -> None:
    """With fake tensors of CUDA: a frame comes, is worked on, and leaves."""
    device = torch.device("cuda", 0)
    with FakeTensorMode():
        incoming, work, outgoing = (SideStream(device) for _ in range(3))
        sent = incoming.send((torch.empty(4, 6, dtype=torch.uint8),), device)
        assert queues == ["side 1 copies", "side 1 marks"]
        queues.clear()
        with work.activate():
            (there,) = sent.on_current_stream()
            assert there.device == device
            fetched = outgoing.fetch((there + 1,))
        assert fetched.tensors[0].device.type == "cpu"
    assert queues == [
        "side 2 waits for default",
        "side 2 waits for mark of side 1",
        "kept for side 2",
        "side 3 waits for side 2",
        "kept for side 3",
        "side 3 copies",
        "side 3 marks",
        "default waits for side 2",
    ]
