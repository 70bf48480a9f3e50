"""What a shell completes, asked as the scripts of the shells ask, and without importing torch."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable

import pytest

import rdvfi
from rdvfi.config import list_recipes
from rdvfi.evaluation.methods import BASELINES
from rdvfi.registry import REGISTRIES
from rdvfi.training.recipes import list_training_recipes
from rdvfi_cli import completion
from rdvfi_cli.main import main


def _environment(shell: str, line: str) -> dict[str, str]:
    """The variables by which a shell asks the program to complete the last word of a line."""
    words = [*shlex.split(line), *([""] if line.endswith(" ") else [])]
    return {
        "_RDVFI_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str, str], str]:
    """What the program prints to complete a line of a shell."""

    def run(shell: str, line: str) -> str:
        for name, value in _environment(shell, line).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            main([])
        return capsys.readouterr().out

    return run


def test_completion_needs_no_torch() -> None:
    program = (
        "import sys; from rdvfi_cli.main import main\n"
        "try:\n    main([])\nfinally:\n    assert not {'torch', 'numpy', 'rdvfi'} & set(sys.modules)"
    )
    environment = {**os.environ, **_environment("bash", "rdvfi interpolate in.mp4 out.mp4 basis=lin")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("basis=linear\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_options_models_and_components(complete, shell: str) -> None:
    for line, expected in (
        ("rdvfi interpolate --thr", "--threads"),
        ("rdvfi interpolate in.mp4 out.mp4 --model ", "rdvfi-s1"),
        ("rdvfi interpolate in.mp4 out.mp4 basis=lin", "basis=linear"),
        ("rdvfi info glob", "global-local"),
    ):
        assert expected in complete(shell, line), line


def test_bash_splits_words_at_the_equals_sign(complete) -> None:
    known = sorted(rdvfi.bases)
    assert complete("bash", "rdvfi interpolate in.mp4 out.mp4 basis =").split() == known
    assert complete("bash", "rdvfi interpolate in.mp4 out.mp4 basis = lin").split() == ["linear"]


def test_other_words_are_left_to_the_shell_which_completes_files(complete) -> None:
    assert complete("bash", "rdvfi interpolate ") == "\n"
    assert complete("zsh", "rdvfi interpolate in.").strip() == "_files"


def test_the_last_of_several_methods_is_completed(complete) -> None:
    assert complete("fish", "rdvfi evaluate clip.mp4 --models dis,rdvfi-s1").split() == ["dis,rdvfi-s1"]
    assert completion.complete_methods("x,")[-1] == f"x,{BASELINES[-1]}"


def test_completed_names_are_the_names_that_the_library_knows() -> None:
    assert completion.BASELINES == BASELINES
    assert completion.model_names() == rdvfi.list_models()
    assert completion.recipe_names() == list_recipes()
    assert set(completion.training_recipe_names()) <= set(list_training_recipes())
    names = completion.component_names()
    for registry in REGISTRIES:
        built_in = [name for name in registry if registry[name].__module__.startswith("rdvfi.")]
        assert names[completion.REGISTRIES[registry.group]] == built_in
    slots = {p.slot for registry in REGISTRIES for name in registry for p in registry.parameters(name).values()}
    assert {slot for slot in slots if slot} <= completion.REGISTRIES.keys()
