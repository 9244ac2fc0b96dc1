"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

RULES = {"l": "---", "r": "--:"}


def markdown_table(head: Sequence[object], body: Iterable[Sequence[object]], align: str) -> str:
    """A line a row, without a newline at the end.

    Args:
        align: a letter a column, "l" for words and "r" for numbers, as LaTeX has them.
    """
    rows = [head, [RULES[letter] for letter in align], *body]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
