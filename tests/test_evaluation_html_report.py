"""The report page: one file that needs nothing else, with the pairs that it says, which works in a browser."""

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from rdvfi.evaluation import FunctionMethod, evaluate
from rdvfi.evaluation.environment import Environment
from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.evaluation.html_report import ExamplePairs, write_page
from rdvfi.evaluation.html_report.example_pairs import MAX_ERROR, error_map
from rdvfi.evaluation.html_report.report_page import render_page
from rdvfi.evaluation.metrics import WindowResult
from rdvfi.evaluation.results import Report, Score


def failing(img0: torch.Tensor, img1: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no <weights> here")


@pytest.fixture(scope="module")
def saved_report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A page of three scenes at two gaps, one method of which fails."""
    target = tmp_path_factory.mktemp("report") / "report.html"
    with ExamplePairs() as examples:
        methods = ["blend", "blend+blur2", FunctionMethod(failing)]
        main = evaluate(
            "laboratory-undetermined", gap=4, models=methods, pairs=3, group_by=["motion"], on_result=examples
        )
        other = evaluate("laboratory-undetermined", gap=2, models=["blend", "blend+blur2"], pairs=1)
        write_page(target, [main, other], examples.select("blend"))
    return target, main


def test_the_page_needs_nothing_else(saved_report: tuple[Path, Report]) -> None:
    text = saved_report[0].read_text(encoding="utf-8")
    addresses = set(re.findall(r"""(?:src|href)=["']([^"']{0,40})""", text))
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "\n$" not in text
    assert list(saved_report[0].parent.iterdir()) == [saved_report[0]]


def test_the_data_inside_is_the_report(saved_report: tuple[Path, Report]) -> None:
    text, report = saved_report[0].read_text(encoding="utf-8"), saved_report[1]
    saved = dict(re.findall(r'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', text))
    assert set(saved) == {
        f"laboratory-undetermined-gap{gap}.{kind}" for gap in (4, 2) for kind in ("json", "csv", "md")
    }
    assert json.loads(base64.b64decode(saved["laboratory-undetermined-gap4.json"])) == json.loads(report.to_json())


def test_table_plots_and_failures_are_there(saved_report: tuple[Path, Report]) -> None:
    text, report = saved_report[0].read_text(encoding="utf-8"), saved_report[1]
    assert f"<td>{report.score('blend').psnr:.2f}</td>" in text
    assert "failed: no &lt;weights&gt; here" in text
    assert "no <weights> here" not in text
    assert text.count("<svg") == 4
    for title in ("against gap", "between the inputs", "against motion size", "against time per frame"):
        assert f"PSNR {title}" in text
    assert [row.clip in text for row in report.windows] == [True] * 3


def test_equal_reports_are_equal_pages(saved_report: tuple[Path, Report]) -> None:
    assert render_page([saved_report[1]]) == render_page([saved_report[1]])


def _result(number: int, error: float) -> WindowResult:
    frames = np.full((3, 32, 48, 3), 100, np.uint8)
    window = EvaluationWindow(number, frames, "clip")
    return WindowResult(window, window.truth() + error)


def test_the_worst_the_median_and_the_best_pair_are_shown() -> None:
    method = FunctionMethod(failing, name="mine")
    with ExamplePairs() as examples:
        for number, error in enumerate((0.1, 0.02, 0.3, 0.05, 0.2)):
            examples(method, _result(number, error))
        selected = examples.select("mine")
        assert [(one.rank, one.label) for one in selected] == [
            ("worst", "clip 2"),
            ("median", "clip 0"),
            ("best", "clip 1"),
        ]
        assert examples.select("another") == []
    decoded = cv2.imdecode(np.frombuffer(selected[0].pictures["mine"], np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (32, 48, 3)
    assert abs(float(decoded.mean()) - (100 + 0.3 * 255)) < 2.0
    with ExamplePairs() as examples:
        examples(method, _result(0, 0.1))
        assert [one.rank for one in examples.select("mine")] == ["best"]


def test_the_error_map_is_black_without_error_and_brightest_at_full_scale() -> None:
    truth = torch.full((3, 8, 8), 0.25)
    frame = truth.clone()
    frame[:, :, 4:] += MAX_ERROR / 255.0
    error_colours = error_map(frame, truth).astype(int)
    assert error_colours[:, :4].max() < 8
    assert error_colours[:, 4:].sum(2).min() > 600
    half = error_map(truth + 0.5 * MAX_ERROR / 255.0, truth).astype(int).sum(2)
    assert error_colours[:, :4].sum(2).max() < half.min() <= half.max() < error_colours[:, 4:].sum(2).min()


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    empty = Report("c", 2, (8, 8), 1, 1, 0, (Score("m"),), (), Environment("cpu", 1, "t", "r", None))
    with pytest.raises(ValueError, match=r"must end in \.html"):
        write_page(tmp_path / "report.pdf", [empty])
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_page(tmp_path / "no" / "report.html", [empty])
    with pytest.raises(ValueError, match="there is no report"):
        write_page(tmp_path / "report.html", [])
    assert list(tmp_path.iterdir()) == []


def test_the_page_works_in_a_browser(saved_report: tuple[Path, Report], tmp_path: Path) -> None:
    browser = pytest.importorskip("browser")
    if not browser.PROGRAM:
        pytest.skip("no Chromium here")
    with browser.Browser(tmp_path) as tab:
        for width, phone in ((1280, False), (390, True)):
            tab.open(saved_report[0].as_uri(), width=width, height=844, phone=phone)
            tab.wait("document.readyState == 'complete' && document.querySelector('.compare img.over') != null")
            assert tab.run("document.documentElement.scrollWidth") <= width
            assert tab.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            assert tab.run("[...document.querySelectorAll('.plots svg')].every(svg => svg.clientHeight > 150)")
            left, top, box_width, box_height = tab.run(
                "(() => { const box = document.querySelector('.compare'); box.scrollIntoView({block: 'center'});"
                "const r = box.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; })()"
            )
            mouse = {"x": left + box_width / 4, "y": top + box_height / 2, "button": "left", "clickCount": 1}
            tab.send("Input.dispatchMouseEvent", type="mousePressed", buttons=1, **mouse)
            tab.send("Input.dispatchMouseEvent", type="mouseReleased", buttons=0, **mouse)
            slider_position = tab.run("document.querySelector('.compare').style.getPropertyValue('--cut')")
            assert float(slider_position.rstrip("%")) == pytest.approx(25.0, abs=1.0)
            tab.run("(() => { const s = document.querySelector('.right'); s.value = 0; s.onchange(); })()")
            assert tab.run("document.querySelector('.compare img.under').alt") == "truth"
        assert all(address.startswith(("file:", "data:")) for address in tab.requests)
