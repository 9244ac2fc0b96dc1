"""The data card as one picture."""

from __future__ import annotations

import io
import textwrap
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from adamas.data_card.card import Card

WIDTH, MARGIN, LINE = 1140, 16, 18
FRAME = 84
COLUMNS = 12  # thumbnails in a row
PANEL, PANEL_HEIGHT = (WIDTH - 2 * MARGIN) // 4, 200
INK, GREY, LIGHT, BLUE, RED, GREEN = "#222222", "#777777", "#dddddd", "#2f6fb0", "#b03030", "#2e7d32"
MOST_ACTIONS = 18


def sheet(card: Card, title: str) -> bytes:
    """A PNG: findings, curves, a frame of each cluster, and frames of what the filter drops."""
    image = Image.new("RGB", (WIDTH, _height(card)), "white")
    page = Page(ImageDraw.Draw(image), image)
    page.text(MARGIN, 10, title, size=17)
    y = 40
    for line, colour in _findings(card):
        page.text(MARGIN, y, line, colour, size=13)
        y += LINE
    y += 10
    panels = (_growth, _clusters, _actions, _lags)
    for i, panel in enumerate(panels):
        panel(page, card, MARGIN + i * PANEL, y)
    y = page.thumbnails(
        y + PANEL_HEIGHT + 14, "A frame of each cluster, and its share of the data", _cluster_frames(card)
    )
    for stage in card.stages:
        if stage.name in card.thumbnails:
            head = f"Dropped by the filter: {stage.name}, {int(stage.dropped.sum()):,} rows"
            y = page.thumbnails(y, head, [(frame, "", INK) for frame in card.thumbnails[stage.name]])
    file = io.BytesIO()
    image.quantize(64, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


class Page:
    """What is drawn on."""

    def __init__(self, draw: ImageDraw.ImageDraw, image: Image.Image) -> None:
        self.draw, self.image = draw, image

    def text(self, x: float, y: float, text: str, colour: str = INK, size: int = 12, anchor: str = "la") -> None:
        self.draw.text((x, y), text, colour, font(size), anchor=anchor)

    def bar(self, x: float, y: float, width: float, height: float, colour: str = BLUE) -> None:
        if width >= 0.5 and height >= 0.5:
            self.draw.rectangle((x, y, x + width, y + height), colour)

    def line(self, points: list[tuple[float, float]], colour: str = BLUE, width: int = 2) -> None:
        self.draw.line(points, colour, width)

    def thumbnails(self, y: int, head: str, frames: list[tuple[np.ndarray, str, str]]) -> int:
        """Frames with captions in rows. Returns where the next thing may stand."""
        self.text(MARGIN, y, head, size=14)
        pitch = (WIDTH - 2 * MARGIN) / COLUMNS
        for i, (frame, caption, colour) in enumerate(frames):
            row, column = divmod(i, COLUMNS)
            left, top = round(MARGIN + column * pitch), y + 24 + row * (FRAME + 22)
            self.image.paste(Image.fromarray(frame), (left, top))
            self.draw.rectangle((left - 1, top - 1, left + FRAME, top + FRAME), outline=LIGHT)
            self.text(left, top + FRAME + 3, caption, colour, size=11)
        return y + _thumbnails_height(len(frames))


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _height(card: Card) -> int:
    frames = sum(_thumbnails_height(len(frames)) for frames in card.thumbnails.values())
    return 40 + LINE * len(_findings(card)) + 10 + PANEL_HEIGHT + 14 + frames


def _thumbnails_height(count: int) -> int:
    return 24 + -(-count // COLUMNS) * (FRAME + 22) + 8


def _findings(card: Card) -> list[tuple[str, str]]:
    if not card.findings:
        return [("No findings", GREEN)]
    return [(line, RED) for finding in card.findings for line in textwrap.wrap(finding, 150, subsequent_indent="   ")]


def _growth(page: Page, card: Card, x: int, y: int) -> None:
    c = card.figures["coverage"]
    page.text(x, y, "Distinct states over time", size=14)
    page.text(x, y + 18, f"{c['distinct_states']:,} of {card.figures['rows']:,} rows", GREY)
    left, top, width, height = x + 2, y + 44, PANEL - 40, PANEL_HEIGHT - 70
    rows, most = card.figures["rows"], max(c["distinct_states"], 1)
    page.line([(left, top), (left, top + height), (left + width, top + height)], LIGHT, 1)
    points = [(left + width * row / rows, top + height * (1 - n / most)) for row, n in c["growth"]]
    page.line([(left, top + height), *points])
    page.text(left + width, top + height + 4, f"{rows:,}", GREY, 11, "ra")
    page.text(left, top + height + 4, "0", GREY, 11)


def _clusters(page: Page, card: Card, x: int, y: int) -> None:
    d, shares = card.figures["diversity"], [c["share"] for c in card.figures["coverage"]["clusters"]]
    lost = card.figures.get("dreams", {}).get("lost")
    page.text(x, y, "Share of each cluster", size=14)
    page.text(x, y + 18, f"entropy {d['entropy']:.2f} of {d['most_entropy']:.2f} bits", GREY)
    height, pitch, base = PANEL_HEIGHT - 70, (PANEL - 30) / len(shares), y + PANEL_HEIGHT - 26
    for i, share in enumerate(shares):
        tall = height * share / max(shares)
        page.bar(x + i * pitch, base - tall, pitch - 2, tall)
        if lost and lost[i] is not None:
            page.bar(x + i * pitch + pitch / 3, base - height * lost[i], pitch / 3, height * lost[i], RED)
    ends = f"{shares[0]:.1%} to {shares[-1]:.2%}"
    page.text(x, base + 4, f"{ends}; red: share of dreamed steps that diverge" if lost else ends, GREY, 11)


def _actions(page: Page, card: Card, x: int, y: int) -> None:
    actions = card.figures["coverage"]["actions"]
    page.text(x, y, "Steps and rewards of each action", size=14)
    shown = actions[:MOST_ACTIONS]
    pitch = min(24.0, (PANEL_HEIGHT - 30) / len(shown))
    size, most = (12 if pitch >= 14 else 9), max(a["steps"] for a in actions) or 1
    for i, action in enumerate(shown):
        top = y + 24 + i * pitch
        page.text(x + 78, top + pitch / 2, action["name"][:12], RED if not action["steps"] else INK, size, "rm")
        page.bar(x + 84, top + 2, 90 * action["steps"] / most, pitch - 4)
        page.text(x + 180, top + pitch / 2, f"{action['steps']:,}, {action['reward']:+g}", GREY, min(size, 11), "lm")


def _lags(page: Page, card: Card, x: int, y: int) -> None:
    a = card.figures["alignment"]
    page.text(x, y, "Which action explains a change", size=14)
    page.text(x, y + 18, a["verdict"], {"shifted": RED, "aligned": GREEN}.get(a["verdict"], GREY))
    if not a["scores"]:
        return
    height, pitch, base = PANEL_HEIGHT - 84, (PANEL - 20) / len(a["scores"]), y + PANEL_HEIGHT - 32
    most = max(*a["scores"].values(), 1e-6)
    page.line([(x, base), (x + PANEL - 20, base)], LIGHT, 1)
    for i, (lag, score) in enumerate(a["scores"].items()):
        tall = height * max(score, 0) / most
        told = a["lag"] is not None and lag == f"{a['lag']:+d}"
        page.bar(x + i * pitch + 8, base - tall, pitch - 16, tall, (RED if a["lag"] else GREEN) if told else BLUE)
        page.text(x + (i + 0.5) * pitch, base - tall - 2, f"{score:.3f}", GREY, 11, "mb")
        page.text(x + (i + 0.5) * pitch, base + 3, f"t{lag if lag != '+0' else ''}", INK, 11, "ma")
    page.text(x, base + 18, "held-out score of each action", GREY, 11)


def _cluster_frames(card: Card) -> list[tuple[np.ndarray, str, str]]:
    lost = card.figures.get("dreams", {}).get("lost")
    wanted = card.figures.get("dreams", {}).get("more_data", [])
    captions = []
    for i, cluster in enumerate(card.figures["coverage"]["clusters"]):
        text = f"{i + 1}: {cluster['share']:.1%}"
        if lost and lost[i] is not None:
            text += f", lost {lost[i]:.0%}"
        captions.append((card.thumbnails["clusters"][i], text, RED if i + 1 in wanted else INK))
    return captions
