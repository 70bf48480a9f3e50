"""Files that people have, made by FFmpeg's command, and the right value of each: a table is printed.

``pytest -m slow -s tests/test_video_cases.py``. Two relatives of each kind are in the fast tests of `media`.
"""

import itertools
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest

import rdvfi
from rdvfi.media.reader import open_source
from video_bench import H264, Bench

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg's command makes the files"),
]


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    """The end frames and a dissolve: files are tried here, not frames."""
    return rdvfi.build("rdvfi_s", "backbone=ends", "coarse=dis", "renderer=blend").requires_grad_(False)


Case = Callable[[Bench], tuple[object, object]]
CASES: dict[str, Case] = {}


def case(made: Case) -> Case:
    """A maker of a file, which gives the right value and what came out."""
    CASES[made.__name__] = made
    return made


@case
def transport_stream_that_starts_at_ten_hours(bench: Bench):
    bench.film("in.ts", f"{H264} -bf 2 -c:a aac -output_ts_offset 36000", sound=True)
    bench.make("in.ts", "o.mp4")
    with av.open(str(bench.folder / "o.mp4")) as container:
        return (True, True), (container.start_time < 50_000, container.duration < 700_000)


@case
def transport_stream_that_lost_a_packet(bench: Bench):
    data = bench.film("whole.ts", f"{H264} -g 10 -bf 2 -c:a aac", seconds=1.2, sound=True).read_bytes()
    packets = [data[k : k + 188] for k in range(0, len(data), 188)]
    lost = next(k for k in range(len(packets) // 2, len(packets)) if packets[k][1] & 31 == 1 and packets[k][2] == 0)
    (bench.folder / "in.ts").write_bytes(b"".join(packets[:lost] + packets[lost + 1 :]))
    report = bench.make("in.ts", "o.mp4")
    return True, 28 <= report.frames_read and any("damaged" in note for note in report.notes)


@case
def recording_cut_off(bench: Bench):
    data = bench.film("whole.ts", f"{H264} -g 20 -bf 0 -b:v 800k -c:a aac", seconds=1.6, sound=True).read_bytes()
    (bench.folder / "in.ts").write_bytes(data[: 188 * (len(data) // 188 * 3 // 4)])
    return True, 25 <= bench.make("in.ts", "o.mp4").frames_read <= 35


@case
def clock_that_jumps_back(bench: Bench):
    parts = [
        bench.film(f"{k}.ts", f"{H264} -g 12 -bf 0 -c:a aac{offset}", seconds=0.48, sound=True).read_bytes()
        for k, offset in enumerate((" -output_ts_offset 20", ""))
    ]
    (bench.folder / "in.ts").write_bytes(_counted(parts[0] + parts[1]))
    bench.make("in.ts", "o.mp4")
    times = bench.times("o.mp4")
    return (47, True), (len(times), times[-1] - times[0] < 1.0)


def _counted(data: bytes) -> bytes:
    """A transport stream whose packets are numbered in order."""
    made, counters = bytearray(data), {}
    for at in range(0, len(made), 188):
        track = (made[at + 1] & 31) << 8 | made[at + 2]
        counters[track] = counters.get(track, made[at + 3] - (made[at + 3] >> 4 & 1)) + (made[at + 3] >> 4 & 1)
        made[at + 3] = made[at + 3] & 0xF0 | counters[track] & 15
    return bytes(made)


@case
def film_that_is_corrupt_in_the_middle(bench: Bench):
    data = bytearray(bench.film("whole.mp4", f"{H264} -g 10 -bf 2 -c:a aac", seconds=1.2, sound=True).read_bytes())
    middle = int(0.45 * len(data))
    data[middle : middle + 600] = np.random.default_rng(1).bytes(600)
    (bench.folder / "in.mp4").write_bytes(data)
    report = bench.make("in.mp4", "o.mp4")
    return True, 24 <= report.frames_read <= 30 and any("damaged" in note for note in report.notes)


@case
def matroska_that_is_cut_off(bench: Bench):
    data = bench.film("whole.mkv", f"{H264} -g 10", seconds=1.2).read_bytes()
    (bench.folder / "in.mkv").write_bytes(data[: int(0.6 * len(data))])
    return True, 10 <= bench.make("in.mkv", "o.mkv").frames_read <= 25


@case
def sound_of_a_kind_that_nobody_knows(bench: Bench):
    bench.film("one.mov", f"{H264} -c:a aac", sound=True)
    bench.ffmpeg("-i", "one.mov", "-map", "0:v", "-map", "0:a", "-map", "0:a", "-c", "copy", "two.mov")
    data = bytearray((bench.folder / "two.mov").read_bytes())
    last = data.rfind(b"stsd")
    for name, other in ((b"mp4a", b"apac"), (b"esds", b"dapa")):
        at = data.find(name, last)
        data[at : at + 4] = other
    (bench.folder / "in.mov").write_bytes(data)
    report = bench.make("in.mov", "o.mp4")
    return (["h264", "aac"], True), (bench.tracks("o.mp4"), any("audio track #2" in note for note in report.notes))


@case
def stereo_of_unnamed_channels(bench: Bench):
    bench.film("in.avi", "-ac 2 -c:v mjpeg -q:v 3 -c:a pcm_s16le", sound=True)
    bench.make("in.avi", "o.mp4")
    return "pcm_s16le", bench.tracks("o.mp4")[1]


@case
def sound_of_windows_and_telephones(bench: Bench):
    kept = []
    for codec in ("wmav2", "adpcm_ms", "pcm_alaw"):
        bench.film(f"{codec}.mkv", f"-ac 2 {H264} -c:a {codec}", sound=True)
        bench.make(f"{codec}.mkv", f"o_{codec}.mkv")
        kept += bench.tracks(f"o_{codec}.mkv")[1:]
    return ["wmav2", "adpcm_ms", "pcm_alaw"], kept


@case
def code_of_hevc(bench: Bench):
    bench.film("in.mp4", H264)
    bench.make("in.mp4", "o.mp4", codec="hevc")
    return "hvc1", bench.stream("o.mp4")[0].codec_context.codec_tag


@case
def light_of_hdr(bench: Bench):
    light = "hdr10=1:repeat-headers=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:max-cll=1000,400"
    display = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    options = f"-pix_fmt yuv420p10le -c:v libx265 -preset ultrafast -x265-params log-level=error:{light}:{display}"
    bench.film("in.mp4", options)
    bench.make("in.mp4", "o.mp4", codec="hevc")
    brightness = open_source(bench.folder / "o.mp4").info.hdr
    return ((1000, 400), 1000), (brightness.light, brightness.display and brightness.display.max_luminance)


@case
def ten_bits(bench: Bench):
    bench.film("in.mp4", "-pix_fmt yuv420p10le -c:v libx265 -preset ultrafast -x265-params log-level=error")
    bench.make("in.mp4", "o.mp4")
    return ("hevc", "Main 10"), (bench.tracks("o.mp4")[0], bench.stream("o.mp4")[0].profile)


@case
def pixels_that_are_not_square(bench: Bench):
    bench.film("in.mp4", f"-vf setsar=16/15 {H264}")
    bench.ffmpeg("-i", "in.mp4", "-c:v", "libvpx-vp9", "vp9.webm")
    bench.ffmpeg("-i", "in.mp4", "-c:v", "prores_ks", "pr.mov")
    bench.film("square.mp4", H264)
    bench.ffmpeg("-i", "square.mp4", "-c", "copy", "-aspect", "16:9", "asked.mkv")
    wanted, got = [], []
    for source, name, codec in (
        ("in.mp4", "a.mkv", None), ("vp9.webm", "b.mkv", None), ("pr.mov", "c.mkv", None), ("asked.mkv", "d.mkv", None),
        ("in.mp4", "e.webm", None), ("in.mp4", "f.mkv", "ffv1"), ("in.mp4", "g.webm", "av1"),
    ):  # fmt: skip
        bench.make(source, name, codec=codec)
        wanted.append(open_source(bench.folder / source).info.layout.aspect)
        got.append(open_source(bench.folder / name).info.layout.aspect)
    assert Fraction(16, 15) in wanted
    return wanted, got


@case
def mirrored_film(bench: Bench):
    corners = "color=black:s=160x96:r=25:d={},drawbox=0:0:40:24:red:fill,drawbox=120:0:40:24:lime:fill"
    data = bytearray(bench.film("g.mp4", f"{H264} -crf 5", seconds=0.24, picture=corners).read_bytes())
    at, one = data.find(b"tkhd") + 44, 0x10000
    data[at : at + 36] = struct.pack(">9i", -one, 0, 0, 0, one, 0, 160 * one, 0, 0x40000000)
    (bench.folder / "in.mp4").write_bytes(data)
    bench.make("in.mp4", "o.mp4")
    red, green, blue = bench.stream("o.mp4")[1].to_ndarray(format="rgb24")[4, 4].tolist()
    return True, red < 30 and green > 220 and blue < 30


@case
def interlaced_film(bench: Bench):
    options = f"-vf interlace=scan=tff {H264} -flags +ildct+ilme -x264-params tff=1"
    bench.film("in.mp4", options, seconds=0.4, picture="testsrc2=s=160x96:r=50:d={}")
    report = bench.make("in.mp4", "o.mp4")
    return (False, True), (bench.stream("o.mp4")[1].interlaced_frame, any("interlaced" in n for n in report.notes))


@case
def subtitles_chapters_attachments(bench: Bench):
    (bench.folder / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,300\nhi\n")
    chapters = "".join(f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={k}00\nEND={k + 3}00\ntitle={k}\n" for k in (0, 3))
    (bench.folder / "c.txt").write_text(f";FFMETADATA1\n{chapters}")
    (bench.folder / "f.ttf").write_text("f")
    bench.film("av.mkv", f"{H264} -c:a aac", sound=True)
    parts = "-i av.mkv -i s.srt -i c.txt -map 0 -map 1 -map_chapters 2 -c copy -attach f.ttf".split()
    bench.ffmpeg(*parts, "-metadata:s:t", "mimetype=application/x-truetype-font", "in.mkv")
    bench.make("in.mkv", "o.mkv")
    with av.open(str(bench.folder / "o.mkv")) as container:
        got = sorted(stream.type for stream in container.streams), len(container.chapters())
    bench.film("tc.mov", f"{H264} -timecode 01:00:00:12")
    bench.make("tc.mov", "o.mov")
    timecode = bench.stream("o.mov")[0].metadata["timecode"]
    return (["attachment", "audio", "subtitle", "video"], 2, "01:00:00:24"), (*got, timecode)


@case
def stereoscopic_film(bench: Bench):
    bench.film("in.mkv", f"{H264} -metadata:s:v stereo_mode=left_right")
    bench.make("in.mkv", "o.mkv")
    bench.make("in.mkv", "o.mp4")
    mode = open_source(bench.folder / "o.mp4").info.spatial.stereo_mode
    return ("left_right", 1), (bench.stream("o.mkv")[0].metadata["stereo_mode"], mode)


@case
def transparent_pictures(bench: Bench):
    (bench.folder / "f").mkdir()
    for k in range(3):
        picture = np.zeros((96, 160, 4), np.uint8)
        picture[:] = (255, 0, 255, 0)
        picture[20:50, 20 + 6 * k : 60 + 6 * k] = (230, 60, 120, 255)
        PIL.Image.fromarray(picture).save(bench.folder / "f" / f"{k}.png")
    bench.make("f", "o")
    with PIL.Image.open(bench.folder / "o" / "frame_000000.png") as shown:
        pixel = shown.convert("RGBA").getpixel((5, 80))
    bench.make("f", "o.mp4")
    hidden = bench.stream("o.mp4")[1].to_ndarray(format="rgb24")[80, 5].max()
    return (True, True), (pixel[3] == 0 or pixel[:3] == (0, 0, 0), hidden < 20)


@case
def hidden_files_beside_pictures(bench: Bench):
    (bench.folder / "f").mkdir()
    for k in range(3):
        PIL.Image.new("RGB", (160, 96), (90 + k, 90, 90)).save(bench.folder / "f" / f"{k}.png")
    (bench.folder / "f" / "._0.png").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(80))
    return 5, bench.make("f", "o").frames_written


@case
def names_with_colons(bench: Bench):
    shutil.copy(bench.film("in.mp4", H264), bench.folder / "12:30:05.mp4")
    reports = bench.make("12:30:05.mp4", "o.mp4"), bench.make("in.mp4", "out:1.mp4")
    return [29, 29], [report.frames_written for report in reports]


@case
def longest_name(bench: Bench):
    bench.film("in.mp4", H264)
    return 29, bench.make("in.mp4", "x" * 251 + ".mp4").frames_written


@case
def terminal_that_is_closed(bench: Bench):
    bench.film("in.mp4", H264, seconds=6, picture="testsrc2=s=320x192:r=25:d={}")
    line = [sys.executable, "-m", "rdvfi", "interpolate", "in.mp4", "o.mp4", "-x", "8"]
    with subprocess.Popen(line, cwd=bench.folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as running:
        while not list(bench.folder.glob(".o*part*")) and running.poll() is None:
            time.sleep(0.2)
        running.send_signal(signal.SIGHUP)
        running.wait(60)
    return ["in.mp4"], sorted(os.listdir(bench.folder))


@case
def two_runs_into_one_file(bench: Bench):
    bench.film("in.mp4", H264)
    parts = "--recipe rdvfi_s --allow-untrained backbone=ends coarse=dis renderer=blend".split()
    lines = [
        [sys.executable, "-m", "rdvfi", "interpolate", "in.mp4", "o.mp4", *parts[2:], *parts[:2], "-x", times]
        for times in ("2", "3")
    ]
    runs = [subprocess.Popen(line, cwd=bench.folder, stderr=subprocess.DEVNULL) for line in lines]
    codes = [run.wait(900) for run in runs]
    frames = (29, 43)[codes.index(0)]
    return ([0, 2], frames), (sorted(codes), len(bench.times("o.mp4")))


@case
def pipe_as_input(bench: Bench):
    os.mkfifo(bench.folder / "p.mkv")
    code, says = bench.command("p.mkv", "o.mp4", limit=60)
    return (2, True), (code, "is a pipe" in says)


@case
def times_that_matroska_cannot_tell_apart(bench: Bench):
    bench.film("in.mp4", f"-frames:v 12 {H264}", picture="testsrc2=s=160x96:r=24000/1001:d={}")
    with pytest.raises(ValueError, match=r"more than \.mkv files can show"):
        bench.make("in.mp4", "o.mkv", multiplier=100)
    return True, not (bench.folder / "o.mkv").exists()


@case
def brightness_outside_video_levels(bench: Bench):
    with av.open(str(bench.folder / "in.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for _ in range(4):
            frame = av.VideoFrame(160, 96, "yuv420p")
            for number, plane in enumerate(frame.planes):
                values = np.full((plane.height, plane.line_size), 128, np.uint8)
                values[:, :80], values[:, 80:] = (250, 5) if number == 0 else (128, 128)
                plane.update(values.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    bench.make("in.mp4", "o.mp4", crf=0)
    luma = bench.stream("o.mp4")[1].to_ndarray()
    return [250, 5], [int(luma[20, 20]), int(luma[20, 140])]


@case
def twelve_bits(bench: Bench):
    bench.film("in.mp4", "-pix_fmt yuv420p12le -c:v libx265 -preset ultrafast -x265-params log-level=error")
    bench.make("in.mp4", "o.mp4", codec="hevc")
    return "yuv420p12le", bench.stream("o.mp4")[1].format.name


@case
def colour_profile_of_pictures(bench: Bench):
    (bench.folder / "f").mkdir()
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    for k in range(2):
        PIL.Image.new("RGB", (160, 96), (90 + k,) * 3).save(bench.folder / "f" / f"{k}.png", icc_profile=profile)
    bench.make("f", "o")
    with PIL.Image.open(bench.folder / "o" / "frame_000000.png") as shown:
        return profile, shown.info.get("icc_profile")


@case
def animation_on_twos(bench: Bench):
    with av.open(str(bench.folder / "in.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for k in range(8):
            picture = np.full((96, 160, 3), 40, np.uint8)
            picture[30:60, 20 + 8 * (k // 2) : 60 + 8 * (k // 2)] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    bench.make("in.mp4", "o.mp4", multiplier=4, dedup="auto")
    with av.open(str(bench.folder / "o.mp4")) as container:
        frames = [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]
    steps = [float(np.abs(b - a).mean()) for a, b in itertools.pairwise(frames)][:24]
    return True, min(steps) > 0.1 * max(steps)


@case
def dash_as_output(bench: Bench):
    bench.film("in.mp4", H264)
    code, _ = bench.command("in.mp4", "-")
    return (True, False), (code == 2 or code == 0, (bench.folder / "-").exists())


@case
def odd_size(bench: Bench):
    bench.film("in.mkv", "-vf scale=161:97,format=yuv420p -c:v ffv1")
    bench.make("in.mkv", "o.mp4")
    frame = bench.stream("o.mp4")[1]
    return (162, 98, "yuv420p"), (frame.width, frame.height, frame.format.name)


@case
def aac_into_webm(bench: Bench):
    bench.film("in.mp4", f"{H264} -c:a aac", sound=True)
    bench.make("in.mp4", "o.webm")
    return ["vp9", "opus"], bench.tracks("o.webm")


@pytest.mark.parametrize("name", CASES)
def test_files_that_people_have(tmp_path, model, name, capsys) -> None:
    wanted, got = CASES[name](Bench(tmp_path, model))
    with capsys.disabled():
        sys.stdout.write(f"\n{'right' if wanted == got else 'WRONG'}  {name.replace('_', ' '):44} {str(got)[:60]}")
    assert got == wanted
