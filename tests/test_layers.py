"""The layers of the package: a file imports from the folders of its own layer or of those below, never from above."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ENVIRONMENT, ROOT

LAYERS = [  # from the lowest to the highest
    {"utils", "config"},
    {"data", "networks", "envs"},
    {"world_model", "agent"},
    {"training", "evaluation"},
    {"benchmark", "play"},
    {"cli"},
]
LIBRARIES = {  # which folders may know them; the programs, which are files of src, are above all
    "hydra": {"config"},
    "omegaconf": {"config", "cli"},
    "tqdm": {"training", "benchmark", "cli"},
    "websockets": {"play"},
    "ale_py": {"envs"},
}
SRC = ROOT / "src"


def module_of(path: Path) -> str:
    """ "adamas.envs.atari", "adamas.envs" for its __init__.py, "main"."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in SRC.rglob("*.py")}


def names_imported(source: str) -> set[str]:
    """Every dotted name that is imported anywhere in it, what is taken from a module included."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imports(source: str) -> set[str]:
    """The modules of this repository that it imports."""
    names = names_imported(source)
    return {name if name in FILES else name.rpartition(".")[0] for name in names} & set(FILES)


def packages(source: str) -> set[str]:
    """The top-level packages that it imports from."""
    return {name.split(".")[0] for name in names_imported(source)}


def folder(module: str) -> str:
    """ "envs" for adamas.envs.atari; "" for the package itself and for the programs."""
    return [*module.split("."), ""][1]


def layer(module: str) -> int:
    """The programs are above all; the package itself, which is imported before anything in it, is in the lowest layer."""
    if module.split(".")[0] != "adamas":
        return len(LAYERS)
    (number,) = [i for i, folders in enumerate(LAYERS) if folder(module) in folders | {"" if i == 0 else None}]
    return number


def allowed(importer: str, imported: str) -> bool:
    return layer(imported) <= layer(importer)


@pytest.mark.parametrize("module", sorted(FILES))
def test_a_file_imports_from_its_own_layer_or_from_below(module: str) -> None:
    assert not [name for name in imports(FILES[module].read_text()) if not allowed(module, name)]


def test_no_file_imports_itself_through_others() -> None:
    graph = {module: imports(path.read_text()) - {module} for module, path in FILES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("library", LIBRARIES)
def test_few_folders_know_a_library(library: str) -> None:
    users = [module for module, path in FILES.items() if library in packages(path.read_text())]
    assert users
    assert {folder(module) for module in users} <= LIBRARIES[library]


def test_one_file_knows_the_emulator() -> None:
    assert [m for m, path in FILES.items() if "ale_py" in packages(path.read_text())] == ["adamas.envs.atari"]


@pytest.mark.parametrize("words", [["train", "--help"], ["train", "preset=smoke", "densoier.context=3"], ["--help"]])
def test_the_command_line_answers_without_waiting_for_torch(words: list[str]) -> None:
    program = (
        f"import sys; from adamas.cli import main; main.main({words}); print({{'torch', 'cv2'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("importer", "source", "right"),
    [
        ("main", "from adamas.training.trainer import Trainer", True),
        ("adamas.agent.actor_critic", "from adamas.networks.blocks import zero", True),
        ("adamas.agent.imagination", "from adamas.world_model.world_model import WorldModel", True),
        ("adamas.training.trainer", "from adamas.evaluation import evaluate", True),
        ("adamas.play.load", "from adamas.training.load_run import SavedRun", True),
        ("adamas.training.checkpoint", "def f():\n    from adamas.utils import files", True),
        ("adamas.world_model.edm", "def f():\n    import adamas.training.trainer", False),
        ("adamas.networks.blocks", "from adamas.agent import returns", False),
        ("adamas.data.replay", "from adamas.world_model import edm", False),
        ("adamas.utils.files", "from adamas.envs import atari", False),
        ("adamas.training.trainer", "import main", False),
        ("adamas.training.trainer", "from adamas.play import session", False),
        ("adamas.play.session", "from adamas.cli import train", False),
        ("adamas", "from adamas.data import replay", False),
    ],
)
def test_the_rules_themselves(importer: str, source: str, right: bool) -> None:
    (imported,) = imports(source)
    assert allowed(importer, imported) == right
