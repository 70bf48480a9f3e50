"""What README and docs show works: Python is executed, commands and links are checked."""

import ast
import functools
import importlib
import re
import runpy
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer
import typer.main

import clips
import rdvfi
import rdvfi_cli.main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

pages = pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])


def _blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language. ``py`` marks Python that cannot run everywhere."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with the examples in it as in the repository."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


EXECUTED = [page for page in PAGES if _blocks(page, "python")]


@pytest.mark.parametrize("page", EXECUTED, ids=[str(p.relative_to(ROOT)) for p in EXECUTED])
def test_python_blocks_of_a_page_run_one_after_the_other(page: Path, elsewhere: Path) -> None:
    namespace: dict[str, object] = {"__name__": f"docs.{page.stem}"}
    names = [(registry, set(registry)) for registry in rdvfi.registry.REGISTRIES]
    try:
        for number, block in enumerate(_blocks(page, "python")):
            exec(compile(block, f"{page.name} block {number}", "exec"), namespace)
    finally:
        for registry, known in names:
            for name in set(registry) - known:
                registry.unregister(name)


def test_readme_and_quick_start_are_executed() -> None:
    assert {"README.md", "quickstart.md", "add-a-basis.md"} <= {page.name for page in EXECUTED}


def _commands(page: Path) -> list[list[str]]:
    """Shell commands: one a line, comments and line continuations taken away."""
    text = "\n".join(_blocks(page, "bash")).replace("\\\n", " ")
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def _options(command: str) -> set[str]:
    """Every option that ``rdvfi COMMAND`` takes."""
    group = typer.main.get_command(rdvfi_cli.main.application())
    chosen = group.commands[command]  # pyright: ignore[reportAttributeAccessIssue]
    below = [p for command in getattr(chosen, "commands", {}).values() for p in command.params]
    found = (*chosen.params, *group.params, *below)
    return {"--help"} | {o for p in found for o in (*p.opts, *p.secondary_opts)}


@pages
def test_commands_take_the_options_that_are_shown(page: Path) -> None:
    known = typer.main.get_command(rdvfi_cli.main.application()).commands  # pyright: ignore[reportAttributeAccessIssue]
    for words in _commands(page):
        program = Path(words[0]).name
        if program == "rdvfi" and not words[1].startswith("-"):
            assert words[1] in known, words
            given = {word.split("=")[0] for word in words[2:] if re.match("-[-a-z]", word)}
            assert given <= _options(words[1]), words
        elif program == "make":
            targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert words[1] in targets, words


def test_ci_runs_the_commands_of_the_readme() -> None:
    run = (ROOT / ".ci/run").read_text()
    commands = [" ".join(words) for words in _commands(ROOT / "README.md") if words[0] == "make"]
    assert commands == ["make demo", "make test"]
    for command in commands:
        assert re.search(f"^(step|beside) {command}$", run, re.MULTILINE)


@pages
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.split("#")[0]).exists(), target


def test_a_registered_backbone_runs(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    monkeypatch.setattr(sys, "argv", ["register_backbone.py"])
    try:
        runpy.run_path(str(ROOT / "examples/register_backbone.py"), run_name="__main__")
    finally:
        rdvfi.backbones.unregister("rearranged")
    assert "three frames between them" in capsys.readouterr().out
    strip = cv2.imread("out/register_backbone.png")
    assert strip is not None
    h, w = strip.shape[:2]
    first, middle = strip[:, : w // 5], strip[:, 2 * (w // 5) : 3 * (w // 5)]
    assert (h, w) == (360, 5 * 640)
    assert abs(first.astype(int) - middle).mean() > 1.0


def test_the_example_of_one_pair_runs(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    monkeypatch.setattr(sys, "argv", ["interpolate.py", "examples/clips/branch.mp4", "between.png"])
    runpy.run_path(str(ROOT / "examples/interpolate.py"), run_name="__main__")
    column = cv2.imread("between.png")
    assert column is not None
    assert column.shape == (7 * 360, 640, 3)
    steps = [abs(column[:360].astype(int) - column[360 * i : 360 * (i + 1)]).mean() for i in range(7)]
    assert steps[0] == 0.0
    assert steps == sorted(steps)  # ever farther from the first frame


def test_the_example_of_many_files_runs(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    clips.write_clip(Path("in/short.mp4"), clips.moving(3, 48, 64))
    runpy.run_path(str(ROOT / "examples/many_files.py"))["main"](Path("in"), Path("out"))
    assert "short.mp4 done" in capsys.readouterr().out


def test_every_example_is_run() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [script.name for script in (ROOT / "examples").glob("*.py") if script.name not in tests] == []


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What mkdocs asks when it builds a page."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("docs_hooks")


def test_the_page_of_the_command_line_has_every_command_and_option(hooks: ModuleType) -> None:
    page = hooks.on_page_markdown((ROOT / "docs/cli.md").read_text())
    for command in typer.main.get_command(rdvfi_cli.main.application()).commands:  # pyright: ignore[reportAttributeAccessIssue]
        assert f"## `rdvfi {command}`" in page
    assert "`-x, --multiplier <" in page
    assert "rdvfi data build" in page
    assert "<!--" not in page


def test_the_api_has_every_public_module_and_name(hooks: ModuleType) -> None:
    pages = [hooks.on_page_markdown(page.read_text()) for page in (ROOT / "docs/api").glob("*.md")]
    listed = [name for page in pages for name in re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE)]
    assert not {name for name in listed if listed.count(name) > 1}
    assert set(listed) == set(hooks.public_modules("rdvfi"))
    for name in rdvfi.__all__:
        home = getattr(getattr(rdvfi, name), "__module__", None)
        if home is not None and home.startswith("rdvfi."):
            assert home in listed, name


def test_every_registered_name_is_on_the_page_of_components(hooks: ModuleType) -> None:
    page = hooks.on_page_markdown((ROOT / "docs/api/components.md").read_text())
    for registry in (rdvfi.backbones, rdvfi.flows, rdvfi.bases, rdvfi.trajectories, rdvfi.renderers):
        for name in registry:
            assert f"`{name}`" in page, name


@pages
def test_lists_and_code_are_understood_as_such(page: Path) -> None:
    """Markdown takes an item that follows other text, and code that stands in by one to three spaces, for text."""
    text = page.read_text()
    assert not re.findall(r"^ {1,3}```.*$", text, re.MULTILINE)
    paragraphs = re.split(r"\n\s*\n", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE))
    items = [p for p in paragraphs if re.search(r"^- ", p, re.MULTILINE)]
    assert not [p for p in items if not re.match(r"\s*(- |\d+\. |<!--)", p)]


def test_terms_of_the_glossary_stand_once() -> None:
    terms = re.findall(r"^([A-Z].*)\n: ", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    assert len(terms) == len(set(terms)) > 30
    assert {"Knot", "Keyframe", "Motion size", "Residual motion", "Similarity path", "Timestep", "Sigma"} <= set(terms)


def test_the_tree_in_contributing_is_there() -> None:
    tree = _blocks(ROOT / "CONTRIBUTING.md", "text")[0]
    for folder in re.findall(r"^([\w/]+/)  ", tree, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder
    package = ROOT / "src/rdvfi"
    named = set(re.findall(r"^  (\w+)/  ", tree, re.MULTILINE))
    assert named == {path.parent.name for path in package.glob("*/*") if path.suffix in (".py", ".yaml", ".md")}
    for names in re.findall(r"^  ((?:\w+, )+\w+)  ", tree, re.MULTILINE):
        for name in names.split(", "):
            assert (package / f"{name}.py").exists(), name


def test_the_training_guide_lists_every_loss_and_no_other() -> None:
    from rdvfi.training.losses.loss_registry import losses

    table = (ROOT / "docs/guides/train.md").read_text().split("| Loss | Compares |\n")[1].split("\n\n")[0]
    first = [line.split("|")[1] for line in table.splitlines()]
    assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} == set(losses)


def _resolves(name: str) -> bool:
    """Whether a dotted name is a module of the package or something in one."""
    for count in range(name.count(".") + 1, 0, -1):
        module, rest = ".".join(name.split(".")[:count]), name.split(".")[count:]
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        for part in rest:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pages
def test_names_of_the_package_on_a_page_exist(page: Path) -> None:
    if page.name == "changelog.md":
        return
    names = set(re.findall(r"`(rdvfi(?:\.\w+)+)`", page.read_text())) - {"rdvfi.plugins"}
    assert not {name for name in names if not _resolves(name)}


@functools.cache
def _defined(path: Path) -> set[str]:
    """Names at the top of a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
    return names


def test_names_in_docstrings_and_pages_exist() -> None:
    """`rdvfi.module.name` in backticks is a module, or a name in it."""
    wrong = []
    for path in (*PAGES, ROOT / "CHANGELOG.md", *(ROOT / "src").rglob("*.py")):
        for name in set(re.findall(r"`(rdvfi(?:\.[A-Za-z_]\w*)+)", path.read_text())) - {"rdvfi.plugins"}:
            place, parts = ROOT / "src", name.split(".")
            while parts and (place / parts[0]).is_dir():
                place /= parts.pop(0)
            module = place / "__init__.py"
            if parts and (place / f"{parts[0]}.py").exists():
                module = place / f"{parts.pop(0)}.py"
            if parts and parts[0] not in _defined(module):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert wrong == []
