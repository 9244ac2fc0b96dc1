"""The package has layers: a file imports from its own layer or from below, never from above. And the map of docs/ names it."""

from __future__ import annotations

import ast
import graphlib
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ENVIRONMENT

SRC = Path(__file__).parents[1] / "src"
MAP = (SRC.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
LAYERS = (  # of the folders of src/adamas, lowest first; above them the files of src
    ("utils", "config"),
    ("data", "networks", "envs"),
    ("world_model", "agent"),
    ("training", "evaluation", "data_card"),
    ("benchmark", "conversion", "play", "web"),
    ("cli",),
)


def module_of(path: Path) -> str:
    """ "adamas.envs.atari", "adamas.envs" for its __init__.py, "main"."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in SRC.rglob("*.py")}


def names_imported(source: str) -> set[str]:
    """Every dotted name that is imported anywhere in it, what is taken from a module included."""
    names: set[str] = set()
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


def libraries(module: str) -> set[str]:
    """The top-level packages that it imports from."""
    return {name.split(".")[0] for name in names_imported(FILES[module].read_text())}


def folder(module: str) -> str:
    """ "envs" for adamas.envs.atari; "" for the package itself, and for the files beside it."""
    return module.split(".")[1] if "." in module else ""


def layer(module: str) -> int:
    """The package itself is on the lowest one."""
    if "." not in module:
        return 0 if module == "adamas" else len(LAYERS)
    (number,) = [i for i, folders in enumerate(LAYERS) if folder(module) in folders]
    return number


def allowed(importer: str, imported: str) -> bool:
    return layer(imported) <= layer(importer)


@pytest.mark.parametrize("module", sorted(FILES))
def test_a_file_imports_from_its_own_layer_or_below(module: str) -> None:
    assert not [name for name in imports(FILES[module].read_text()) if not allowed(module, name)]


def test_every_file_is_in_a_folder_of_a_layer() -> None:
    folders = {name for layer in LAYERS for name in layer}
    assert not [name for name in FILES if name.startswith("adamas.") and folder(name) not in folders]
    assert {name for name in FILES if not name.startswith("adamas")} <= {"main", "play"}


@pytest.mark.parametrize("name", [name for names in LAYERS for name in names if name != "cli"])  # one file a command
def test_the_map_names_every_module(name: str) -> None:
    """In docs/architecture.md: the row of each package, in the layer that is checked here."""
    (number,) = [i for i, folders in enumerate(LAYERS, 1) if name in folders]
    (row,) = re.findall(rf"^\| {number} \| `{name}`.*$", MAP, re.MULTILINE)
    words = set(re.findall(r"`(\w+)`", row))
    assert not [
        module
        for module in FILES
        if folder(module) == name and module.count(".") == 2 and module.split(".")[2] not in words
    ]


def test_no_file_imports_itself_through_others() -> None:
    graph = {module: imports(path.read_text()) - {module} for module, path in FILES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_no_folder_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {}
    for module, path in FILES.items():
        used = {folder(name) for name in imports(path.read_text())}
        graph.setdefault(folder(module), set()).update(used - {folder(module), ""})
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("hydra", {"config"}),
        ("omegaconf", {"config", "cli", "conversion"}),
        ("tqdm", {"utils", "training", "cli"}),
        ("websockets", {"play"}),
        ("ale_py", {"envs"}),
    ],
)
def test_few_folders_know_a_library(library: str, homes: set[str]) -> None:
    assert {folder(module) for module in FILES if library in libraries(module)} == homes


SCRIPTS = {str(path.relative_to(SRC.parent)): path for path in (SRC.parent / "scripts").rglob("*.py")}


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_takes_from_the_package_is_there(name: str) -> None:
    """Also in functions that no other test calls."""
    nodes, modules = list(ast.walk(ast.parse(SCRIPTS[name].read_text()))), {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adamas"):
            package = importlib.import_module(node.module)
            for alias in node.names:
                if f"{node.module}.{alias.name}" in FILES:
                    modules[alias.asname or alias.name] = importlib.import_module(f"{node.module}.{alias.name}")
                else:
                    assert hasattr(package, alias.name), alias.name
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), f"{node.value.id}.{node.attr}"


ANSWERS = """
import sys
from adamas.cli import main

for command in main.COMMANDS:
    assert main.main([command, "--help"]) == 0
    assert main.main([command, "no-such-setting=1"]) == 2
print({"torch", "cv2"} & set(sys.modules), file=sys.stderr)
"""


def test_the_command_line_answers_without_waiting_for_torch() -> None:
    """Its help, and its word on a setting that there is not."""
    done = subprocess.run([sys.executable, "-c", ANSWERS], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "set()", done.stderr


@pytest.mark.parametrize(
    ("importer", "source", "right"),
    [
        ("main", "from adamas.cli.main import main", True),
        ("adamas", "from adamas.utils.waiting import wait_briefly", True),
        ("adamas.agent.actor_critic", "from adamas.networks.blocks import zero", True),
        ("adamas.agent.actor_critic", "from adamas.agent.returns import lambda_returns", True),
        ("adamas.agent.imagination", "from adamas.world_model.world_model import WorldModel", True),
        ("adamas.training.trainer", "from adamas.evaluation import evaluate", True),
        ("adamas.training.checkpoint", "def f():\n    from adamas.utils import files", True),
        ("adamas.play.load", "from adamas.training.load_run import SavedRun", True),
        ("adamas.world_model.edm", "def f():\n    import adamas.training.updates", False),
        ("adamas.networks.blocks", "from adamas.agent import returns", False),
        ("adamas.data.replay", "if TYPE_CHECKING:\n    from adamas.world_model.denoiser import Denoiser", False),
        ("adamas.config.rules", "from adamas.data import replay", False),
        ("adamas.training.trainer", "from adamas.play import session", False),
        ("adamas.benchmark.worker", "from adamas.cli import train", False),
        ("adamas.cli.train", "import main", False),
        ("adamas", "from adamas.envs import atari", False),
    ],
)
def test_the_rules_themselves(importer: str, source: str, right: bool) -> None:
    (imported,) = imports(source)
    assert allowed(importer, imported) == right
