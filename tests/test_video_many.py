"""Many files, on one process, on processes and on a real Ray cluster: the same bytes, whoever dies."""

import importlib.util
import multiprocessing
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

import clips
import interrupted
from rdvfi.video import interpolate_many, interpolate_video
from rdvfi_cli.main import main

ray_needed = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'rdvfi[ray]'")
OPTIONS = {"multiplier": 4, "segment_frames": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model, two clips of 6 segments, and what a plain run makes of them."""
    folder = tmp_path_factory.mktemp("many")
    interrupted.save_model(folder / "model")
    for seed, name in enumerate(("a", "b")):
        clips.write_clip(folder / f"{name}.mp4", clips.moving(13, 48, 64, seed=seed))
        interpolate_video(folder / f"{name}.mp4", folder / f"{name} done.mp4", model=folder / "model", **OPTIONS)
    return folder


def _jobs(folder: Path, into: Path) -> list[tuple[Path, Path]]:
    return [(folder / f"{name}.mp4", into / f"{name}.mp4") for name in ("a", "b")]


def _assert_done(folder: Path, into: Path, results: list) -> None:
    assert [result.error for result in results] == [None, None]
    assert sorted(os.listdir(into)) == ["a.mp4", "b.mp4"]
    for name in ("a", "b"):
        assert (into / f"{name}.mp4").read_bytes() == (folder / f"{name} done.mp4").read_bytes()
    assert [result.report.frames_written for result in results] == [49, 49]


def test_a_job_that_fails_does_not_stop_the_others(tmp_path, folder) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    jobs = [*_jobs(folder, tmp_path), (tmp_path / "bad.mp4", tmp_path / "c.mp4")]
    results = interpolate_many(reversed(jobs), model=folder / "model", **OPTIONS)
    assert "bad.mp4 is not a video" in str(results[0].error)
    (tmp_path / "bad.mp4").unlink()
    _assert_done(folder, tmp_path, results[1:])


def test_jobs_have_options_of_their_own_and_resume_passes_over_what_is_done(tmp_path, folder) -> None:
    jobs = [
        {"source": folder / "a.mp4", "destination": tmp_path / "a.mp4"},
        {"source": folder / "b.mp4", "destination": tmp_path / "b.mp4", "multiplier": 2},
    ]
    done = interpolate_many(jobs, model=folder / "model", **OPTIONS)
    assert [result.report.frames_written for result in done] == [49, 25]
    before = (tmp_path / "a.mp4").stat().st_mtime_ns
    again = interpolate_many(jobs, model=folder / "model", resume=True, **OPTIONS)
    assert [(result.report, result.error) for result in again] == [(None, None)] * 2
    assert (tmp_path / "a.mp4").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"executor": "cloud"}, "executor is 'cloud'; it must be one of process, devices, ray"),
        ({"speeed": 2}, "speeed is no option of a job"),
        ({"progress_bar": 2}, "progress_bar is no option of a job"),
    ],
)
def test_wrong_options_are_refused_before_any_work(tmp_path, folder, wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        interpolate_many(_jobs(folder, tmp_path), model=folder / "model", **wrong)
    assert os.listdir(tmp_path) == []


def test_a_job_needs_a_source_and_a_destination(tmp_path, folder) -> None:
    with pytest.raises(ValueError, match="a job says no destination"):
        interpolate_many([{"source": folder / "a.mp4"}], model=folder / "model")


def test_the_command_takes_whole_folders(tmp_path, folder, capsys) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(folder / "a.mp4", tmp_path / "in" / "a.mp4")
    shutil.copy(folder / "b.mp4", tmp_path / "in" / "deep" / "b.MP4")
    (tmp_path / "in" / "bad.mp4").write_text("no video")
    arguments = ["interpolate", str(tmp_path / "in"), str(tmp_path / "out"), "--recursive", "--resume", "-x", "4"]
    arguments += ["--model", str(folder / "model"), "--segment-frames", "8"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "bad.mp4 is not a video" in said
    assert "1 of 3 jobs failed" in said
    assert (tmp_path / "out" / "a.mp4").read_bytes() == (folder / "a done.mp4").read_bytes()
    assert (tmp_path / "out" / "deep" / "b.MP4").read_bytes() == (folder / "b done.mp4").read_bytes()
    (tmp_path / "in" / "bad.mp4").unlink()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert "is there already" in capsys.readouterr().out


@ray_needed
def test_a_cluster_that_does_not_answer_is_one_line(tmp_path, folder) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for wrong in (address, "nowhere"):
        with pytest.raises(ConnectionError, match=f"address is '{wrong}'; "):
            interpolate_many(_jobs(folder, tmp_path), model=folder / "model", executor="ray", address=wrong)


def test_processes_make_the_same_bytes_when_one_is_killed(tmp_path, folder) -> None:
    killed = []

    def kill(done: int, expected: int) -> None:
        if done >= 2 and not killed:
            killed.append(multiprocessing.active_children()[0])
            killed[0].kill()

    results = interpolate_many(
        _jobs(folder, tmp_path),
        model=str(folder / "model"),
        executor="devices",
        devices=["cpu", "cpu"],
        threads=1,
        progress=kill,
        **OPTIONS,
    )
    assert killed
    _assert_done(folder, tmp_path, results)


@pytest.mark.slow
def test_a_worker_that_dies_three_times_fails_its_job_and_no_other(tmp_path, folder) -> None:
    deadly = interrupted.deadly_model(folder / "model", tmp_path / "deaths", times=3)
    (tmp_path / "out").mkdir()
    results = interpolate_many(
        _jobs(folder, tmp_path / "out"),
        model=deadly,
        allow_untrained=True,
        executor="devices",
        devices=["cpu"],
        threads=1,
        **OPTIONS,
    )
    assert "workers died 3 times over segment 0 of it" in str(results[0].error)
    assert results[1].error is None
    assert (tmp_path / "out" / "b.mp4").read_bytes() == (folder / "b done.mp4").read_bytes()


@ray_needed
@pytest.mark.slow
def test_ray_makes_the_same_bytes_when_a_worker_is_killed(tmp_path, folder, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # where workers find the deadly renderer
    deadly = interrupted.deadly_model(folder / "model", tmp_path / "deaths", times=2)
    (tmp_path / "out").mkdir()
    results = interpolate_many(
        _jobs(folder, tmp_path / "out"),
        model=deadly,
        allow_untrained=True,
        executor="ray",
        workers=2,
        threads=1,
        **OPTIONS,
    )
    assert len(list((tmp_path / "deaths").iterdir())) == 2
    _assert_done(folder, tmp_path / "out", results)


@ray_needed
@pytest.mark.slow
def test_ray_makes_the_same_bytes_when_a_node_is_killed(tmp_path, folder) -> None:
    """Two nodes with a worker each; one of them goes while both work. Files go by URL."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        gone = []

        def kill(done: int, expected: int) -> None:
            if done >= 2 and not gone:
                gone.append(nodes.pop())
                cluster.remove_node(gone[0], allow_graceful=False)

        (tmp_path / "out").mkdir()
        jobs = [
            (f"file://{source}", f"file://{destination}") for source, destination in _jobs(folder, tmp_path / "out")
        ]
        results = interpolate_many(
            jobs,
            model=str(folder / "model"),
            executor="ray",
            address=cluster.address,
            workers=2,
            threads=1,
            segments=f"file://{tmp_path}/segments",
            progress=kill,
            **OPTIONS,
        )
        assert gone
        _assert_done(folder, tmp_path / "out", results)
    finally:
        cluster.shutdown()
