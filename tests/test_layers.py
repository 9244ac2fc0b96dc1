"""The house has four floors, and arrows go down: a file imports from floors below its own, never from above."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
COMMAND_LINE = {"cli", "config_file", "knobs", "mistakes", "wording"}
FLOORS = [
    {
        "config",
        "config_check",
        "frames",
        "small",
        "turns",
        "replay",
        "segments",
        "draws",
        "chunks",
        "files",
        "checkpoint",
        "logger",
        "device",
        "randomness",
        "distributed",
        "launched",
        "locks",
        *COMMAND_LINE,
    },
    {"networks"},
    {"world_model", "agent", "envs"},
    {"training", "evaluation", "play"},
]
NEIGHBOURS = {
    ("training", "evaluation"),
    ("play", "training"),
}  # rooms of one upper floor that may be seen from another: from, to


def module_of(path: Path) -> str:
    """ "adamas.envs.atari", "adamas.envs" for its __init__.py, "main"."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in SRC.rglob("*.py")}


def names_imported(source: str, at_once: bool = False) -> set[str]:
    """Every dotted name that is imported anywhere in it, or `at_once`, what is taken from a module included."""
    names, tree = set(), ast.parse(source)
    for node in tree.body if at_once else ast.walk(tree):
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


def libraries(module: str, at_once: bool = False) -> set[str]:
    """The top-level packages that it imports from."""
    return {name.split(".")[0] for name in names_imported(FILES[module].read_text(), at_once)}


def room(module: str) -> str:
    """The file or folder of the package that it belongs to: "envs" for adamas.envs.atari."""
    return module.split(".")[1]


def floor(module: str) -> int:
    (number,) = [i for i, rooms in enumerate(FLOORS) if room(module) in rooms]
    return number


def allowed(importer: str, imported: str) -> bool:
    if "." not in importer:  # main and play see everything; the package itself nothing
        return importer != "adamas"
    if "." not in imported:
        return False
    if floor(importer) != floor(imported):
        return floor(importer) > floor(imported)
    rooms = room(importer), room(imported)
    return floor(importer) == 0 or rooms[0] == rooms[1] or rooms in NEIGHBOURS


@pytest.mark.parametrize("module", sorted(FILES))
def test_a_file_imports_from_below(module: str) -> None:
    assert not [name for name in imports(FILES[module].read_text()) if not allowed(module, name)]


def test_every_file_of_the_package_stands_on_a_floor() -> None:
    homeless = {name for name in FILES if name.startswith("adamas.") and not any(room(name) in f for f in FLOORS)}
    assert not homeless
    assert {name for name in FILES if not name.startswith("adamas")} <= {"main", "play"}


def test_no_file_imports_itself_through_others() -> None:
    graph = {module: imports(path.read_text()) - {module} for module, path in FILES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize(
    ("library", "homes"),
    [("hydra", {"cli"}), ("omegaconf", COMMAND_LINE), ("tqdm", {"training"}), ("websockets", {"play"})],
)
def test_few_rooms_know_a_library(library: str, homes: set[str]) -> None:
    users = [module for module in FILES if library in libraries(module)]
    assert users
    assert {room(module) for module in users} <= homes


def test_one_file_knows_the_emulator() -> None:
    assert [module for module in FILES if "ale_py" in libraries(module)] == ["adamas.envs.atari"]


def test_the_command_line_answers_without_waiting_for_torch() -> None:
    reached, ahead = set(), {"adamas.config.command_line"}
    while ahead:
        reached |= ahead
        ahead = set().union(*(imports(FILES[module].read_text()) for module in ahead)) - reached
    assert {room(module) for module in reached} <= COMMAND_LINE | {"config", "config_check", "files", "launched"}
    assert not [module for module in reached if {"torch", "numpy", "cv2"} & libraries(module, at_once=True)]


@pytest.mark.parametrize(
    ("importer", "source", "right"),
    [
        ("main", "from adamas.training.trainer import Trainer", True),
        ("adamas.agent.actor_critic", "from adamas.networks.blocks import zero", True),
        ("adamas.agent.actor_critic", "from adamas.agent.returns import lambda_returns", True),
        ("adamas.training.trainer", "from adamas.evaluation import evaluate", True),
        ("adamas.training.checkpoint", "def f():\n    from adamas import files", True),
        ("adamas.agent.actor_critic", "from adamas.world_model import edm", False),
        ("adamas.world_model.edm", "def f():\n    import adamas.envs.atari", False),
        ("adamas.networks.blocks", "from adamas.agent import returns", False),
        ("adamas.data.replay", "from adamas.networks.blocks import zero", False),
        ("adamas.evaluation.evaluate", "from adamas.training.updates import Generators", False),
        ("adamas.training.trainer", "import main", False),
        ("adamas.play.load", "from adamas.training.load_run import SavedRun", True),
        ("adamas.training.trainer", "from adamas.play import session", False),
        ("adamas", "from adamas import config", False),
    ],
)
def test_the_rules_themselves(importer: str, source: str, right: bool) -> None:
    (imported,) = imports(source)
    assert allowed(importer, imported) == right
