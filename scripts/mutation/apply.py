"""Builds a fault into code by its structure.

A pattern is Python with single capital letters, each of which stands for any expression (the same one wherever it is
repeated), and with `...` in a call for all arguments that are not written out: `normal((A,), B)`, `A.step(...)`. So a fault
survives new names of local variables and a new layout.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Bindings = dict[str, Any]  # what each letter stands for; "..." for the arguments left out
REST = "..."


class FaultError(Exception):
    """A fault does not find its place."""


@dataclass(frozen=True)
class Swap:
    """In one place of a function, what matches `pattern` becomes `replacement`: an expression, or statements.

    Args:
        nth: which of several places; None: there must be one.
    """

    pattern: str
    replacement: str
    nth: int | None = None

    def apply(self, function: ast.FunctionDef) -> None:
        wanted = _parse(self.pattern)[0]
        places = [(holder, found) for holder in _places(function) if (found := match(wanted, holder.node)) is not None]
        if not places or (self.nth is None and len(places) > 1):
            raise FaultError(f"{function.name} has {len(places)} places like `{self.pattern}`")
        holder, bindings = places[self.nth or 0]
        made = [_Fill(bindings).visit(copy.deepcopy(node)) for node in _parse(self.replacement)]
        holder.put(made if isinstance(holder.node, ast.stmt) else made[0])


@dataclass(frozen=True)
class Becomes:
    """The whole function becomes `return expression`."""

    expression: str

    def apply(self, function: ast.FunctionDef) -> None:
        function.body = [ast.Return(_parse(self.expression)[0])]


def drop(pattern: str) -> Swap:
    """The statement goes."""
    return Swap(pattern, "pass" if isinstance(_parse(pattern)[0], ast.stmt) else "None")


def mutated(source: str, function: str, edits: tuple[Swap | Becomes, ...]) -> str:
    """The source of a module with all edits made in `function`, `name` or `Class.name`.

    Raises:
        FaultError: there is no such function, no such place in it, or nothing changed.
    """
    tree = ast.parse(source)
    before, node = ast.unparse(tree), _find(tree, function)
    for edit in edits:
        edit.apply(node)
    after = ast.unparse(ast.fix_missing_locations(tree))
    if after == before:
        raise FaultError(f"{function} is what it was")
    return after


def module_file(root: Path, module: str) -> Path:
    """Of a module of adamas, in the repository at `root`."""
    return root / "src" / "adamas" / f"{module.replace('.', '/')}.py"


def match(pattern: Any, node: Any, bindings: Bindings | None = None) -> Bindings | None:
    """What each letter of the pattern stands for; None where the node is another."""
    bindings = {} if bindings is None else bindings
    if isinstance(pattern, ast.Name) and _is_letter(pattern.id):
        return bindings if isinstance(node, ast.expr) and _bind(bindings, pattern.id, node) else None
    if isinstance(pattern, list):
        same = isinstance(node, list) and len(pattern) == len(node)
        return (
            bindings
            if same and all(match(p, n, bindings) is not None for p, n in zip(pattern, node, strict=True))
            else None
        )
    if not isinstance(pattern, ast.AST):
        return bindings if pattern == node else None
    if type(pattern) is not type(node):
        return None
    if isinstance(pattern, ast.Call) and any(map(_is_rest, pattern.args)):
        return _match_open_call(pattern, node, bindings)
    fields = (name for name in pattern._fields if name not in ("ctx", "type_comment"))
    every = all(match(getattr(pattern, name, None), getattr(node, name, None), bindings) is not None for name in fields)
    return bindings if every else None


def _match_open_call(pattern: ast.Call, node: ast.Call, bindings: Bindings) -> Bindings | None:
    """Of a call with `...`: what stands before it comes first, what is named is there."""
    first = [argument for argument in pattern.args if not _is_rest(argument)]
    named = {keyword.arg: keyword for keyword in node.keywords}
    wanted = [named.pop(keyword.arg, None) for keyword in pattern.keywords]
    parts = [(pattern.func, node.func), (first, node.args[: len(first)]), (pattern.keywords, wanted)]
    if any(match(*part, bindings) is None for part in parts):
        return None
    bindings[REST] = (node.args[len(first) :], list(named.values()))
    return bindings


def _bind(bindings: Bindings, letter: str, node: ast.expr) -> bool:
    return ast.unparse(bindings.setdefault(letter, node)) == ast.unparse(node)


def _is_letter(name: str) -> bool:
    return len(name) == 1 and name.isupper() and name != "F"  # torch.nn.functional


def _is_rest(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _parse(text: str) -> list[Any]:
    """The statements; of a lone expression that expression."""
    body = ast.parse(text).body
    return [body[0].value] if len(body) == 1 and isinstance(body[0], ast.Expr) else body


class _Fill(ast.NodeTransformer):
    """Puts in what the letters stand for."""

    def __init__(self, bindings: Bindings) -> None:
        self.bindings = bindings

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return copy.deepcopy(self.bindings.get(node.id, node))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        open_call = any(map(_is_rest, node.args))
        node.args = [argument for argument in node.args if not _is_rest(argument)]
        self.generic_visit(node)
        if open_call:
            args, keywords = self.bindings[REST]
            node.args, node.keywords = [*node.args, *args], [*node.keywords, *keywords]
        return node


@dataclass
class _Place:
    """A node in its parent."""

    node: ast.AST
    put: Callable[[Any], None]


def _places(parent: ast.AST) -> list[_Place]:
    """Every node below `parent`, the outer ones first. A statement that is an expression comes twice."""
    places = []
    for name, value in ast.iter_fields(parent):
        for i, node in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(node, ast.AST):
                places += [_Place(node, _putter(parent, name, i)), *_places(node)]
    return places


def _putter(parent: ast.AST, name: str, index: int) -> Callable[[Any], None]:
    def put(made: Any) -> None:
        siblings = getattr(parent, name)
        if not isinstance(siblings, list):
            setattr(parent, name, made)
        elif isinstance(made, list):
            siblings[index : index + 1] = [node if isinstance(node, ast.stmt) else ast.Expr(node) for node in made]
        else:
            siblings[index] = made

    return put


def _find(tree: ast.Module, function: str) -> ast.FunctionDef:
    node: Any = tree
    for name in function.split("."):
        inside = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name]
        if not inside:
            raise FaultError(f"there is no {function}")
        node = inside[0]
    return node
