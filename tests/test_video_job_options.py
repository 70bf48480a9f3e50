"""`JobOptions`: one value with the options of `interpolate_video`, which names a job on disk and on other machines."""

import inspect
import pickle
from dataclasses import MISSING, fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rdvfi
from rdvfi.video.job_options import JobOptions
from rdvfi.video.video_job import read_job

RUN_ARGUMENTS = {
    "model", "device", "dtype", "allow_untrained", "progress", "resume", "segments", "compare", "report"
}  # fmt: skip
"""Arguments of `interpolate_video` that do not change the frames."""


@pytest.fixture
def frames(tmp_path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for k in range(3):
        Image.fromarray(np.full((32, 48, 3), 40 * k, np.uint8)).save(folder / f"{k}.png")
    return folder


def test_the_options_are_the_arguments_of_interpolate_video_with_the_same_defaults() -> None:
    arguments = inspect.signature(rdvfi.interpolate_video).parameters
    assert set(JobOptions.names()) == arguments.keys() - RUN_ARGUMENTS
    for field in fields(JobOptions):
        default = arguments[field.name].default
        assert field.default is (MISSING if default is inspect.Parameter.empty else default), field.name


def test_a_resumed_job_must_match_these_settings(frames, tmp_path) -> None:
    """Names and text that segments of this version have on disk: a change loses what an interrupted run kept."""
    options = JobOptions(source=frames, destination=tmp_path / "out.mp4", slow=2, codec="hevc", max_gap=0.5)
    identity = read_job(options).identity(rdvfi.create_model("rdvfi-s"))
    about = {"the version of rdvfi", "the version of torch", "the version of PyAV", "the device", "the model"}
    assert identity.pop("the source") == "656b25c4f0297b30deecc92139ed66ca"
    assert {name: value for name, value in identity.items() if name not in about} == {
        **dict.fromkeys(
            "multiplier target_fps speed timestamps start end mask pipe_format chunk image_rate crf preset bitrate "
            "pix_fmt max_pixels scene_threshold".split(),
            "None",
        ),
        **dict.fromkeys("loop keep_start strict crop_bars".split(), "False"),
        "slow": "2",
        "dedup": "off",
        "seed": "0",
        "batch": "1",
        "codec": "hevc",
        "audio": "True",
        "odd": "pad",
        "deinterlace": "auto",
        "max_gap": "0.5",
        "background": "black",
        "hwaccel": "auto",
        "on_scene_change": "blend",
        "segment_frames": "240",
        "destination": ".mp4",
    }


def test_what_does_not_change_the_frames_is_not_part_of_the_identity(frames, tmp_path) -> None:
    options = JobOptions(source=frames, destination=tmp_path / "out.mp4")
    other = replace(
        options, source="elsewhere", destination="b.mp4", overwrite=True, contact_sheet=tmp_path / "sheet.png"
    )
    assert other.identity() == options.identity()
    for changed in ({"destination": "b.mkv"}, {"seed": 1}, {"segment_frames": 9}):
        assert replace(options, **changed).identity() != options.identity()


def test_iterators_are_kept_and_options_travel_whole(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"source": ["a.png", "b.png"], "destination": "out", "timestamps": iter([0, "0.5"]), "mask": "m.png"}
    options = JobOptions.select(given)
    sent = pickle.loads(pickle.dumps(options.absolute()))
    assert sent == options.absolute()
    assert sent.timestamps == (0, "0.5")
    assert sent.source == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert (sent.destination, sent.mask) == (str(tmp_path / "out"), str(tmp_path / "m.png"))
    urls = JobOptions(source="s3://bucket/in.mp4", destination="-", mask="auto", speed=[(0, 1)])
    assert urls.absolute() == urls


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"hwaccel": "gpu"}, "hwaccel is 'gpu'"),
        ({"slow": 2, "speed": [(0, 1)]}, "slow or speed"),
        ({"max_gap": 0}, "max_gap is 0 s"),
        ({"on_scene_change": "cut"}, "on_scene_change is 'cut'"),
        ({"deinterlace": "yes"}, "deinterlace is 'yes'"),
        ({"pipe_format": "y4m"}, "pipe_format is for -"),
        ({"source": []}, "source is an empty list"),
    ],
)
def test_unusable_options_are_refused_before_the_source_is_read(tmp_path, wrong, message) -> None:
    options = JobOptions(**{"source": tmp_path / "missing.mp4", "destination": tmp_path / "out.mp4", **wrong})
    with pytest.raises(ValueError, match=message):
        read_job(options)
