"""Many files, on one process, on processes and on a real Ray cluster: the same bytes, whoever dies."""

import importlib.util
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import clips
import interrupted
import rdvfi
from rdvfi.video import JobResult, interpolate_many, interpolate_video, many
from rdvfi.video.job import run_job
from rdvfi.video.many import create_folders, find_jobs
from rdvfi.video.segmented_jobs.segment_store import default_segments
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


@pytest.fixture(autouse=True)
def _workers_start_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """As copies of a process that has everything; the example of many files starts them as a user does."""
    warm, get_context = interrupted.warm_context(), multiprocessing.get_context
    monkeypatch.setattr(multiprocessing, "get_context", lambda way=None: warm if way == "spawn" else get_context(way))


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


def test_a_model_that_nobody_trained_is_accepted_for_all_jobs_or_refused_at_once(tmp_path, folder) -> None:
    model = rdvfi.build("rdvfi_s", "backbone=ends", "coarse=dis", "trajectory=straight", "renderer=blend")
    jobs = [(folder / "a.mp4", tmp_path / "a.mp4")]
    (result,) = interpolate_many(jobs, model=model, allow_untrained=True, multiplier=2, end="0.3")
    assert result.error is None
    with pytest.raises(ValueError, match="untrained"):
        interpolate_many(jobs, model=model, multiplier=2)


def test_segments_of_equal_names_are_kept_apart(tmp_path) -> None:
    outputs = [root / "films" / "a.mp4" for root in (tmp_path / "x", tmp_path / "y")]
    outputs += [f"s3://{bucket}/films/a.mp4" for bucket in ("x", "y")]
    places = [
        many._segments_place(output, segments)
        for output in outputs
        for segments in (None, tmp_path / "kept", "s3://kept")
    ]
    assert len(set(places)) == len(places)


def test_an_empty_folder_is_not_done_and_what_is_to_be_replaced_is_made(tmp_path, folder) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "b.mp4").write_text("old")
    jobs = [(folder / "a.mp4", tmp_path / "frames"), (folder / "b.mp4", tmp_path / "b.mp4")]
    options = {"model": folder / "model", "resume": True, **OPTIONS}
    first, second = interpolate_many(jobs, **options)
    assert first.report.frames_written == len(os.listdir(tmp_path / "frames")) == 49
    assert second == JobResult(*jobs[1], None, None)
    (again,) = interpolate_many(jobs[1:], overwrite=True, **options)
    assert again.report.frames_written == 49


def test_two_jobs_with_one_destination_are_refused(tmp_path, folder, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = [(folder / "a.mp4", "out.mp4"), (folder / "b.mp4", tmp_path / "out.mp4")]
    with pytest.raises(ValueError, match="jobs 0 and 1 have the same destination"):
        interpolate_many(jobs, model=folder / "model")


def test_a_fault_in_one_job_does_not_stop_the_others_and_each_is_told_at_once(tmp_path, folder, monkeypatch) -> None:
    def faulty(options, load_model, **run_options):
        if options.source.stem == "b":
            raise ZeroDivisionError("a fault")
        return run_job(options, load_model, **run_options)

    monkeypatch.setattr(many, "run_job", faulty)
    told = []
    results = interpolate_many(reversed(_jobs(folder, tmp_path)), model=folder / "model", done=told.append, **OPTIONS)
    assert [type(result.error) for result in results] == [ZeroDivisionError, type(None)]
    assert told == results


def test_pictures_beside_films_and_single_ones_are_no_jobs(tmp_path, folder, caplog) -> None:
    for place, names in (("films", ("poster.png", "still.jpg", "a.mp4")), ("alone", ("cover.png",)), ("frames", "12")):
        (tmp_path / "in" / place).mkdir(parents=True)
        for name in names:
            path = tmp_path / "in" / place / (name if "." in name else f"{name}.png")
            path.write_bytes(b"x")
    jobs = find_jobs(tmp_path / "in", tmp_path / "out")
    assert [Path(job[0]).relative_to(tmp_path / "in").as_posix() for job in jobs] == ["films/a.mp4", "frames"]
    assert "2 images beside videos in" in caplog.text
    assert "1 images in" in caplog.text


def test_what_workers_meet_is_in_the_report_and_a_damaged_file_gives_the_same_bytes(tmp_path, folder) -> None:
    """A gap of 20 s, and a film of which a part cannot be decoded, which its index does not say."""
    pictures = clips.moving(30, 48, 64)
    clips.write_clip(tmp_path / "gap.mp4", pictures[:13], ticks=[4000 * (k + 120 * (k > 8)) for k in range(13)])
    clips.write_clip(tmp_path / "bad.mkv", pictures, sound=False)
    data = bytearray((tmp_path / "bad.mkv").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    (tmp_path / "bad.mkv").write_bytes(data)
    jobs = [(tmp_path / name, f"{name}.mp4") for name in ("gap.mp4", "bad.mkv")]
    made = []
    for into, options in (("plain", {}), ("devices", {"executor": "devices", "devices": ["cpu"], "threads": 1})):
        (tmp_path / into).mkdir()
        placed = [(source, tmp_path / into / name) for source, name in jobs]
        results = interpolate_many(placed, model=str(folder / "model"), **OPTIONS, **options)
        assert [result.error for result in results] == [None, None]
        notes = [[note.replace(into, "") for note in result.report.notes] for result in results]
        made.append((notes, [path.read_bytes() for _, path in placed], [r.report.frames_read for r in results]))
    assert made[0] == made[1]
    assert "1 gap of more than 10 s" in str(made[0][0][0])
    assert "is damaged" in str(made[0][0][1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"executor": "cloud"}, "executor is 'cloud'; it must be one of process, devices, ray"),
        ({"speeed": 2}, "speeed is no option of a job"),
        ({"executor": "ray", "workers": 0}, "workers is 0; it must be a whole number, at least 1"),
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
    assert "exists already" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments, "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line["already"]) for line in lines] == [("done", True)] * 2


def test_the_command_takes_urls(tmp_path, folder, capsys) -> None:
    places = [(folder / "a.mp4").as_uri(), (tmp_path / "a.mp4").as_uri()]
    arguments = ["--model", str(folder / "model"), "--segment-frames", "8", "-x", "4"]
    for code, said in ((0, ""), (2, f"{places[1]} exists")):
        with pytest.raises(SystemExit) as ended:
            main(["interpolate", *places, *arguments])
        assert ended.value.code == code
        assert said in capsys.readouterr().err
    assert (tmp_path / "a.mp4").read_bytes() == (folder / "a done.mp4").read_bytes()
    assert os.listdir(tmp_path) == ["a.mp4"]


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


def test_a_worker_that_cannot_start_is_done_without_unless_it_is_the_last(tmp_path, folder, caplog) -> None:
    options = {"model": str(folder / "model"), "executor": "devices", "threads": 1, **OPTIONS}
    results = interpolate_many(_jobs(folder, tmp_path)[:1], devices=["abacus", "cpu"], **options)
    assert results[0].error is None
    assert "the others do its work: device is 'abacus'" in caplog.text
    with pytest.raises(ValueError, match="device is 'abacus'"):
        interpolate_many(_jobs(folder, tmp_path)[1:], devices=["abacus"], **options)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_on_devices_says_what_is_kept_and_leaves_nothing_else(tmp_path, folder, number) -> None:
    """Ctrl-C reaches the workers as well; they say nothing."""
    clips.write_clip(tmp_path / "in.mp4", clips.moving(60, 48, 64))
    arguments = ["interpolate", str(tmp_path / "in.mp4"), str(tmp_path / "out.mp4"), "--model", str(folder / "model")]
    arguments += ["-x", "4", "--segment-frames", "8", "--devices", "cpu", "--threads", "1"]
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-m", "rdvfi"]
    with subprocess.Popen(
        [*command, *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    ) as run:
        interrupted.wait_for_path(default_segments(tmp_path / "out.mp4") / "000001.segment", lambda: run.poll() is None)
        os.killpg(run.pid, number)
        said = run.communicate()[1]
    assert run.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert len(said.splitlines()) == 1, said
    assert re.search(
        r"interrupted; 0 of 1 outputs are complete, and \d+ segments of others are kept\. To go on: ", said
    )
    assert [name for name in os.listdir(tmp_path / "temporary") if "segment" in name] == []
    assert sorted(os.listdir(tmp_path)) == [".out.mp4.segments", "in.mp4", "temporary"]
    main_arguments = [argument for argument in arguments if argument not in ("--devices", "cpu")]
    subprocess.run([*command, *main_arguments, "--resume"], check=True, env=environment)
    interpolate_video(tmp_path / "in.mp4", tmp_path / "whole.mp4", model=folder / "model", **OPTIONS)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


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


def test_folders_that_were_made_go_again_after_an_error(tmp_path) -> None:
    jobs = [(tmp_path / "in.mp4", tmp_path / "out" / name / "o.mp4") for name in ("a", "b")]

    def work() -> None:
        with create_folders(jobs):
            assert (tmp_path / "out" / "a").is_dir()
            jobs[1][1].write_text("whole")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        work()
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "out", tmp_path / "out" / "b", jobs[1][1]]


_FIRST_WORKER = """
import multiprocessing, sys
from rdvfi.video.segmented_jobs.workers import _block_interrupts

CODE = "import signal, sys; sys.exit(signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=exec, args=(CODE,))
    with _block_interrupts():
        process.start()
    process.join()
    sys.exit(process.exitcode)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signal masks")
def test_the_first_process_of_all_gets_no_interrupt_either(tmp_path: Path) -> None:
    """Python starts its resource tracker together with it, which changes the mask of signals."""
    (tmp_path / "first.py").write_text(_FIRST_WORKER)
    assert subprocess.run([sys.executable, tmp_path / "first.py"], check=False).returncode == 0
