"""Every bundled protocol on tiny clips in the same layout, and copies that are not whole."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data
from typer.testing import CliRunner

import clips
from rdvfi.evaluation import evaluate
from rdvfi.evaluation.dataset_check import check_copy
from rdvfi.evaluation.dataset_protocol import Protocol, load_protocol, protocols
from rdvfi.evaluation.dataset_windows import crop_and_resize, find_windows, read_windows
from rdvfi.evaluation.evaluation_data import resolve_protocol
from rdvfi.media.image_files.images import write_png
from rdvfi_cli.data_command import application

SIZE = (64, 32)


def frame(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Grey that tells the number of the frame."""
    return np.full((size[1], size[0], 3), clips.level(number), np.uint8)


def numbers(pictures: np.ndarray) -> list[int]:
    return clips.numbers(list(pictures))


def write(root: Path, names: dict[str, int], size: tuple[int, int] = SIZE) -> None:
    """Pictures by file; the number of each is its grey. JPEG and PNG alike, by the suffix."""
    for name, number in names.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), frame(number, size))


def snu_film(root: Path, mode: str, gap: int) -> None:
    write(root, {f"test/GOPRO_test/GOPR0384/{i:06d}.png": i for i in range(1, 20)})
    write(root, {f"test/YouTube_test/0000/{i:05d}.png": i for i in range(1, 20)})
    lines = []
    for folder, width in (("GOPRO_test/GOPR0384", 6), ("YouTube_test/0000", 5)):
        names = (f"data/SNU-FILM/test/{folder}/{i:0{width}d}.png" for i in (2, 2 + gap // 2, 2 + gap))
        lines.append(" ".join(names))
    (root / "eval_modes").mkdir()
    (root / f"eval_modes/test-{mode}.txt").write_text("\n".join(lines) + "\n")


def vimeo(root: Path, listing: str, length: int) -> None:
    for name in ("00001/0001", "00002/0266"):
        write(root, {f"sequences/{name}/im{i}.png": i for i in range(1, length + 1)})
    (root / listing).write_text("00001/0001\n00002/0266\n\n")


XIPH = ("BoxingPractice", "Crosswalk", "DrivingPOV", "FoodMarket")
XIPH += ("FoodMarket2", "RitualDance", "SquareAndTimelapse", "Tango")


def build(root: Path, name: str) -> dict[str, Any]:
    """A tiny copy in the layout of a set, and what it holds."""
    if name == "davis-7":
        write(root, {f"JPEGImages/480p/{c}/{i:05d}.jpg": i for c in ("bear", "bus") for i in range(20)})
        return {"clips": 2, "frames": 40, "windows": 4, "lengths": {"bear": 20, "bus": 20}}
    if name == "ucf101-7":
        write(root, {f"v_Archery_g0{c}/{i}.png": i for c in (1, 2) for i in range(9)})
        return {"clips": 2, "windows": 2, "lengths": 9}
    if name in ("fcvg", "pixels"):
        write(root, {f"clip{c}/{i:02d}.png": i for c in (1, 2) for i in range(25)})
        return {"clips": 2, "windows": 2, "lengths": 25}
    if name.startswith("snu-film"):
        modes = {"easy": 2, "medium": 4, "hard": 8, "extreme": 16}
        mode = {"4x": "medium", "8x": "hard", "16x": "extreme"}.get(name.rsplit("-", 1)[1], name.rsplit("-", 1)[1])
        snu_film(root, mode, modes[mode])
        return {"windows": 2}
    if name.startswith("x-test"):
        write(root, {f"Type{c}/TEST0{c}_003_f0433/{i:04d}.png": i for c in (1, 2, 3) for i in range(33)})
        return {"clips": 3, "frames": 99, "windows": 3, "lengths": 33}
    if name.startswith("vimeo"):
        triplet = name.endswith("triplet")
        vimeo(root, "tri_testlist.txt" if triplet else "sep_testlist.txt", 3 if triplet else 7)
        return {"windows": 2}
    if name.startswith("xiph"):
        write(root, {f"{c}-{i:03d}.png": i % 60 for c in XIPH for i in range(1, 101)}, (16, 8))
        return {"frames": 800, "windows": 392}
    if name == "gopro":
        write(root, {f"test/GOPR0384_11_00/{i:06d}.png": i for i in range(1, 20)})
        return {"clips": 1, "windows": 2}
    write(root, {f"IMG_0001/{i:05d}.png": i for i in range(19)})
    clips.write_numbered(root / "720p_240fps_1.mp4", range(19))
    return {"clips": 2, "windows": 4 if name == "adobe240" else 18}


def tiny(name: str, root: Path) -> Protocol:
    """The protocol, with the counts and the sizes of a tiny copy that is made in ``root``."""
    contents = build(root, name)
    protocol = load_protocol(name)
    assert set(protocol.expect) - {"size"} <= set(contents)
    crop = (8, 4) if isinstance(protocol.crop, tuple) else protocol.crop
    resize = None if protocol.resize is None else (16, 16) if protocol.crop == "square" else (16, 9)
    return replace(protocol, expect=contents, crop=crop, resize=resize)


@pytest.mark.parametrize("name", sorted(protocols()))
def test_a_whole_copy_gives_the_windows_of_the_protocol(name: str, tmp_path: Path) -> None:
    protocol = tiny(name, tmp_path)
    assert list(check_copy(protocol, tmp_path)) == []
    windows = list(read_windows(protocol, tmp_path))
    assert len(windows) == protocol.expect["windows"]
    for window in windows:
        frame_numbers = numbers(window.frames)
        steps = set(np.diff(frame_numbers).tolist())
        assert len(frame_numbers) == protocol.length
        assert len(steps) == 1 or name.startswith("xiph")
        if protocol.resize is not None:
            assert window.frames.shape[1:3] == protocol.resize[::-1]
    assert len({(window.clip, window.first) for window in windows}) == len(windows)


@pytest.mark.parametrize(("name", "expected"), [
    ("davis-7", [list(range(9)), list(range(9, 18))]),
    ("fcvg", [list(range(25))]),
    ("snu-film-easy", [[2, 3, 4]]),
    ("snu-film-hard", [[2, 6, 10]]),
    ("snu-film-arb-8x", [list(range(2, 11))]),
    ("snu-film-arb-16x", [list(range(2, 19))]),
    ("x-test-4k", [list(range(0, 33, 4))]),
    ("vimeo-90k-septuplet", [list(range(1, 8))]),
    ("xiph-2k", [[1, 2, 3], [3, 4, 5]]),
    ("gopro", [list(range(1, 10)), list(range(9, 18))]),
    ("folder", [[0, 1, 2], [2, 3, 4]]),
])  # fmt: skip
def test_the_frames_are_those_of_the_paper(name: str, expected: list[list[int]], tmp_path: Path) -> None:
    windows = read_windows(tiny(name, tmp_path), tmp_path, pairs=len(expected))
    assert [numbers(window.frames) for window in windows] == expected


def test_the_counts_are_the_published_ones() -> None:
    counts = {name: protocol.expect.get("windows") for name, protocol in protocols().items()}
    assert counts["davis-7"] == 357
    assert counts["vimeo-90k-triplet"] == 3782
    assert counts["vimeo-90k-septuplet"] == 7824
    assert {counts[f"snu-film-{mode}"] for mode in ("easy", "medium", "hard", "extreme")} == {310}
    assert counts["xiph-4k"] == 8 * 49
    for protocol in protocols().values():
        assert protocol.source
        assert protocol.citation


def test_a_square_is_reduced_in_linear_light() -> None:
    """Black and white in equal parts average to the code of half the light, not to half the code."""
    protocol = replace(load_protocol("davis-7"), resize=(1, 1))
    halves = np.zeros((2, 4, 3), np.uint8)
    halves[:, 2] = 255
    assert crop_and_resize(halves, protocol).ravel().tolist() == [round(255 * 0.5 ** (1 / 2.2))] * 3
    assert crop_and_resize(halves, replace(protocol, light="coded")).ravel().tolist() == [128] * 3


def test_the_middle_of_a_frame_is_taken() -> None:
    picture = np.arange(8 * 12, dtype=np.uint8).reshape(8, 12, 1).repeat(3, 2)
    protocol = replace(load_protocol("xiph-4k"), crop=(4, 2))
    assert np.array_equal(crop_and_resize(picture, protocol), picture[3:5, 4:8])
    wide = replace(load_protocol("fcvg"), resize=(12, 6))
    assert np.array_equal(crop_and_resize(picture, wide), picture[1:7])
    with pytest.raises(ValueError, match="a frame is 12x8; Xiph 4k takes its middle 40x2"):
        crop_and_resize(picture, replace(protocol, crop=(40, 2)))


def damaged(protocol: Protocol, root: Path, damage: str) -> str:
    """Break one file of a tiny copy; gives what must be named."""
    images = (w.files for w in find_windows(protocol, root).windows if not w.numbers)
    victim = next(images)[1]
    if damage == "cut short":
        victim.write_bytes(victim.read_bytes()[:-20])
    elif damage == "another size":
        assert cv2.imwrite(str(victim), frame(4, (40, 24)))
    else:
        victim.unlink()
    return (victim.stem.lstrip("im").lstrip("0") or "0") if damage == "missing" else str(victim)


@pytest.mark.parametrize("damage", ["missing", "cut short", "another size"])
@pytest.mark.parametrize("name", sorted(protocols()))
def test_a_damaged_copy_is_refused_with_the_file_named(name: str, damage: str, tmp_path: Path) -> None:
    protocol = tiny(name, tmp_path)
    named = damaged(protocol, tmp_path, damage)
    assert any(named in problem for problem in check_copy(protocol, tmp_path))
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        list(read_windows(protocol, tmp_path))
    assert named in str(refused.value)


@pytest.mark.parametrize("end", [0, -1])
@pytest.mark.parametrize("name", ["davis-7", "ucf101-7", "fcvg", "pixels", "x-test-4k"])
def test_a_clip_without_its_first_or_last_frame_is_named(name: str, end: int, tmp_path: Path) -> None:
    protocol = tiny(name, tmp_path)
    first = find_windows(protocol, tmp_path).windows[0].files[0].parent
    sorted(first.iterdir())[end].unlink()
    count = len(list(first.iterdir()))
    assert f"{first} holds {count} frames; {protocol.title} has {count + 1} there" in check_copy(protocol, tmp_path)
    with pytest.raises(ValueError, match=f"{first} holds {count} frames"):
        read_windows(protocol, tmp_path)


def test_a_missing_clip_is_named(tmp_path: Path) -> None:
    protocol = tiny("davis-7", tmp_path)
    shutil.rmtree(tmp_path / "JPEGImages/480p/bus")
    assert f"{tmp_path / 'JPEGImages/480p/bus'} is missing" in check_copy(protocol, tmp_path)
    lengths = load_protocol("davis-7").expect["lengths"]
    assert (len(lengths), sum(lengths.values()), sum(n // 9 for n in lengths.values())) == (50, 3455, 357)


@pytest.mark.parametrize("name", ["adobe240", "folder"])
@pytest.mark.parametrize("damage", ["no index", "broken packets", "another file"])
def test_a_damaged_video_is_refused_with_the_file_named(name: str, damage: str, tmp_path: Path) -> None:
    protocol = tiny(name, tmp_path)
    video = tmp_path / "720p_240fps_1.mp4"
    data = bytearray(video.read_bytes())
    if damage == "no index":
        data = data[: len(data) // 2]
    elif damage == "broken packets":
        start = data.index(b"mdat") + 200
        data[start : start + 600] = bytes(600)
    else:
        data = bytearray(b"nothing that plays")
    video.write_bytes(data)
    assert any(str(video) in problem for problem in check_copy(protocol, tmp_path))
    with pytest.raises(ValueError, match=r"720p_240fps_1\.mp4"):
        list(read_windows(protocol, tmp_path))


def test_lists_that_are_missing_or_wrong_are_named(tmp_path: Path) -> None:
    protocol = tiny("snu-film-hard", tmp_path)
    listing = tmp_path / "eval_modes/test-hard.txt"
    listing.write_text(listing.read_text() + "a b\n")
    assert any("does not name three numbered frames: 'a b'" in p for p in find_windows(protocol, tmp_path).problems)
    listing.unlink()
    assert f"{listing} is missing" in find_windows(protocol, tmp_path).problems
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_windows(protocol, tmp_path / "gone")


def test_another_number_of_clips_is_named(tmp_path: Path) -> None:
    build(tmp_path, "davis-7")
    problems = find_windows(load_protocol("davis-7"), tmp_path).problems
    assert f"{tmp_path} holds 2 clips; DAVIS-7 has 50" in problems
    with pytest.raises(ValueError, match=r"blackswan is missing .*rdvfi data check lists them"):
        read_windows(load_protocol("davis-7"), tmp_path)


def test_hashes_are_checked(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    protocol = tiny("vimeo-90k-triplet", root)
    sums = tmp_path / "sums"
    listing = root / "tri_testlist.txt"
    sums.write_text(f"{hashlib.sha256(listing.read_bytes()).hexdigest()}  tri_testlist.txt\n")
    assert list(check_copy(protocol, root, hashes=sums)) == []
    listing.write_text(listing.read_text() + "\n")
    assert list(check_copy(protocol, root, hashes=sums)) == [
        f"{listing} is not the published file: its SHA-256 differs"
    ]
    with pytest.raises(FileNotFoundError, match=r"there is no file of sums .*gone"):
        list(check_copy(protocol, root, hashes=tmp_path / "gone"))
    sums.write_text("nonsense\n")
    with pytest.raises(ValueError, match="line 1: expected a SHA-256 sum"):
        list(check_copy(protocol, root, hashes=sums))


def test_a_protocol_is_evaluated(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    picture = data.astronaut()
    for clip in ("one", "two"):
        for i in range(18):
            (root / "JPEGImages/480p" / clip).mkdir(parents=True, exist_ok=True)
            write_png(root / f"JPEGImages/480p/{clip}/{i:05d}.png", picture[100:164, 100 + 2 * i : 196 + 2 * i].copy())
    protocol = replace(load_protocol("davis-7"), expect={"windows": 4}, resize=(48, 48), metrics=("psnr", "fid"))
    report = evaluate(root, protocol=protocol, models=["dis", "blend"])
    assert (report.clip, report.gap, report.size, report.pairs, report.frames) == ("DAVIS-7", 8, (48, 48), 4, 28)
    assert report.score("dis").psnr > report.score("blend").psnr
    assert {row.clip for row in report.windows} == {"JPEGImages/480p/one", "JPEGImages/480p/two"}
    assert set(report.score("dis").intervals) == {"psnr"}
    assert evaluate(root, protocol=protocol, models=["blend"], pairs=1, metrics=["ssim"]).pairs == 1


def test_the_command_checks_a_copy(tmp_path: Path) -> None:
    build(tmp_path, "gopro")
    result = CliRunner().invoke(application, ["check", "gopro", str(tmp_path)])
    assert result.exit_code == 1
    assert "holds 1 clips; GoPro has 11" in result.output
    assert "000001.png is 64x32; expected 1280x720" in result.output
    assert "https://seungjunnah.github.io" in result.output
    whole = CliRunner().invoke(application, ["check", "folder", str(tmp_path), "--gap", "3"])
    assert whole.exit_code == 0
    assert "1 clips, 6 windows" in whole.output


@pytest.mark.parametrize(("text", "why"), [
    ("layout: pile", "layout is 'pile'; it must be one of clips"),
    ("layuot: clips", "has a field 'layuot'; did you mean 'layout'"),
    ("crop: round", "crop is 'round'"),
    ("crop: aspect", "resize is not given"),
    ("light: dim", "light is 'dim'"),
    ("length: 2", "length must be at least 3"),
    ("metrics: [psnrr]", "no metric named 'psnrr'; did you mean 'psnr'"),
    ("- a list", "it must be a mapping of fields"),
    ("a: [", "is not a YAML file"),
])  # fmt: skip
def test_a_protocol_file_that_says_nonsense_is_refused(text: str, why: str, tmp_path: Path) -> None:
    base = "title: mine\nlayout: clips\nclips: '*'\nmetrics: [psnr]\nsource: here\ncitation: none\n"
    lines = [line for line in base.splitlines() if line.split(":")[0] != text.split(":")[0]]
    file = tmp_path / "mine.yaml"
    file.write_text(base)
    assert load_protocol(str(file)).title == "mine"
    file.write_text(text if text[0] in "-a" else "\n".join([*lines, text]))
    with pytest.raises(ValueError, match=why):
        load_protocol(str(file))


def test_names_of_protocols() -> None:
    with pytest.raises(ValueError, match="no protocol 'davis7'; did you mean 'davis-7'"):
        load_protocol("davis7")
    with pytest.raises(ValueError, match="gap is 4; the protocol gopro has a gap of its own, 8"):
        resolve_protocol("gopro", 4)
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml does not exist: the file of a protocol is expected"):
        load_protocol("gone.yaml")
    assert resolve_protocol("folder", 5).gap == 5
