"""scripts/mutation: every fault finds its place in the code of now."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "mutation"))
from apply import FaultError, Swap, drop, module_file, mutated
from faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[1]
CODE = """
def f(x, scale):
    scale.count(x, 1, deep=True)
    return g(x + 1) * scale if x > 0 else h(x)
"""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_finds_its_place(fault: Fault) -> None:
    sound = module_file(ROOT, fault.module).read_text()
    code = mutated(sound, fault.function, fault.edits)
    compile(code, fault.module, "exec")
    assert code != ast.unparse(ast.parse(sound))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_tests_of_a_fault_are_there(fault: Fault) -> None:
    assert [test for test in fault.tests if not (ROOT / "tests" / test.partition("::")[0]).is_file()] == []


def test_each_fault_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (Swap("A > 0", "A >= 0"), "return g(x + 1) * scale if x >= 0 else h(x)"),
        (Swap("g(A + B)", "g(B - A)"), "return g(1 - x) * scale if x > 0 else h(x)"),
        (Swap("A if B else C", "C"), "return h(x)"),
        (Swap("A.count(..., deep=B)", "A.count(..., deep=not B)"), "scale.count(x, 1, deep=not True)"),
        (drop("scale.count(...)"), "None"),
        (Swap("return A", "pass\nreturn -A"), "return -(g(x + 1) * scale if x > 0 else h(x))"),
    ],
)
def test_an_edit_keeps_what_the_letters_stand_for(edit: Swap, line: str) -> None:
    assert f"\n    {line}" in mutated(CODE, "f", (edit,))


@pytest.mark.parametrize(
    ("function", "edit", "told"),
    [
        ("g", Swap("A", "A"), "there is no g"),
        ("f", Swap("A < 0", "A"), "0 places"),
        ("f", Swap("x", "1"), "4 places"),
        ("f", Swap("A * A", "A"), "0 places"),
        ("f", Swap("A > 0", "A > 0"), "is what it was"),
    ],
)
def test_a_fault_that_does_not_fit_is_an_error(function: str, edit: Swap, told: str) -> None:
    with pytest.raises(FaultError, match=told):
        mutated(CODE, function, (edit,))
