"""Importing the package is light, silent, and goes one way."""

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import rdvfi

SOURCE = Path(rdvfi.__file__).parent

LAYERS = [
    {"_atomic", "_typecheck", "compat", "_hub", "_tensors", "_small_text"},
    {"types", "about"},
    {"geometry", "_memory"},
    {"ops"},
    {"layers", "content", "graph_watch"},
    {"scene_decision", "keyframes"},
    {"interfaces"},
    {"testing", "_signature", "_plugins"},
    {"registry"},
    {"backbones", "motion", "render"},
    {"_inputs", "_fit", "graphs"},
    {"saved_models", "weights"},
    {"execution"},
    {"interpolator"},
    {"config", "conf"},
    {"models"},
    {"__init__"},
    {"info"},
    {"media"},
    {"converters"},
    {"data"},
    {"video"},
    {"evaluation"},
    {"training"},
    {"serve"},
    {"integrations"},
    {"__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

HEAVY = {"av", "cv2", "diffusers", "hydra", "kornia", "omegaconf", "rich", "timm", "torchvision"}
HEAVY |= {"triton", "typer", "matplotlib", "piq", "accelerate", "skimage", "scipy"}


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _imports(path: Path) -> set[str]:
    """Every module of the package that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module == "rdvfi"
            found |= {f"rdvfi.{alias.name}" for alias in node.names} if inside else {node.module}
    return {name for name in found if name.split(".")[0] == "rdvfi"}


def test_imports_go_one_way() -> None:
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path == SOURCE / "__init__.py":
            continue  # the front door also names what is imported on first use
        own = path.relative_to(SOURCE).with_suffix("").parts[0]
        assert own in RANK, f"{own} has no place in the layers above"
        for name in _imports(path):
            other = name.split(".")[1] if "." in name else "__init__"
            if other != own and RANK.get(other, len(LAYERS)) >= RANK[own]:
                wrong.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_command_is_outside_the_library() -> None:
    users = [path.name for path in SOURCE.rglob("*.py") if "rdvfi_cli" in path.read_text()]
    assert users == ["__main__.py"]


def test_only_media_opens_video_files() -> None:
    users = {
        path.relative_to(SOURCE).parts[0]
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(_tree(path))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "av" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "av")
    }
    assert users == {"media"}


def test_what_windows_lacks_is_imported_where_it_is_used() -> None:
    lacking = {"fcntl", "resource", "pwd", "grp", "termios", "readline"}
    users = [
        path.name
        for path in (*SOURCE.rglob("*.py"), *(SOURCE.parent / "rdvfi_cli").rglob("*.py"))
        for node in _tree(path).body
        if isinstance(node, ast.Import) and lacking & {alias.name for alias in node.names}
    ]
    assert users == []


def _python(program: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        env={"PATH": "", "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""


def test_importing_is_light_and_silent_and_changes_nothing() -> None:
    _python(
        "import sys, torch\n"
        "loaded, state = set(sys.modules), torch.random.get_rng_state()\n"
        "threads, finders = torch.get_num_threads(), list(sys.meta_path)\n"
        "import rdvfi\n"
        "assert torch.equal(state, torch.random.get_rng_state())\n"
        "assert threads == torch.get_num_threads() and finders == sys.meta_path\n"
        f"heavy = {HEAVY!r} & (set(sys.modules) - loaded)\n"
        "assert not heavy, heavy\n"
        "assert set(rdvfi.__all__) <= set(dir(rdvfi))\n"
        "rdvfi.build\n"
        "assert 'hydra' in sys.modules\n"
    )


def test_modules_of_the_package_behind_a_registry_are_imported_in_any_order() -> None:
    _python(
        "import rdvfi.backbones.compact.generator\n"
        "assert 'compact' in rdvfi.backbones\n"
        "from rdvfi.backbones.compact.generator import CompactKeyframes\n"
        "from rdvfi.registry import Registry, backbones\n"
        "assert rdvfi.backbones is backbones and isinstance(backbones, Registry)\n"
        "import importlib, pickle\n"
        "importlib.import_module('rdvfi.backbones.ends')\n"
        "assert rdvfi.backbones is backbones\n"
        "assert pickle.loads(pickle.dumps(CompactKeyframes)) is CompactKeyframes\n"
    )
    _python("from rdvfi.backbones import ends\nimport rdvfi\nassert rdvfi.backbones['ends'] is ends.ends\n")


def test_users_can_switch_the_shape_checks_on() -> None:
    program = (
        "import rdvfi, torch\n"
        "from rdvfi.ops import backward_warp\n"
        "refused = False\n"
        "try:\n"
        "    backward_warp(torch.zeros(1, 3, 8, 8), torch.zeros(1, 2, 8, 9))\n"
        "except Exception as error:\n"
        "    refused = 'TypeCheckError' in type(error).__name__\n"
        "assert refused == {expected}\n"
    )
    _python(program.format(expected=True), RDVFI_TYPECHECK="1")
    _python(program.format(expected=False))


def test_every_file_and_every_class_has_a_name_of_its_own() -> None:
    """The folders of the backbones mirror each other, so that their files have the same names."""
    files = [p for p in SOURCE.rglob("*.py") if p.name != "__init__.py"]
    classes = Counter(node.name for path in files for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef))
    names = Counter(p.name for p in files if p.parent.parent.name != "backbones")
    assert [name for name, count in (classes + names).items() if count > 1] == []


def test_no_module_is_shadowed_by_a_function_of_its_package() -> None:
    """Except `rdvfi.backbones`, which is the registry."""
    shadowed = []
    for path in SOURCE.rglob("__init__.py"):
        modules = {p.stem for p in path.parent.glob("*.py")} | {
            p.parent.name for p in path.parent.glob("*/__init__.py")
        }
        for node in _tree(path).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                own = ".".join(path.relative_to(SOURCE.parent).parent.parts)
                taken = modules & {alias.asname or alias.name for alias in node.names if node.module != own}
                shadowed += [f"{own}.{name}" for name in taken]
    assert shadowed == ["rdvfi.backbones"]
