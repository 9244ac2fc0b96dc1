"""Where a data card goes: a table, JSON and a picture in a folder."""

from __future__ import annotations

import json
from pathlib import Path

from adamas.data_card.card import Card
from adamas.data_card.picture import sheet
from adamas.data_card.tables import markdown
from adamas.utils.files import publish_text


def write(card: Card, title: str, folder: Path, command: str = "") -> str:
    """Writes card.md, card.json and card.png. Returns the table.

    Args:
        command: that made it, for whoever finds the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(card.plain())
    publish_text(folder / "card.json", json.dumps({"title": title, "command": command, **card.plain()}) + "\n")
    publish_text(folder / "card.md", "\n\n".join([f"# {title}", *([f"`{command}`"] if command else []), text]) + "\n")
    (folder / "card.png").write_bytes(sheet(card, title))
    return text
