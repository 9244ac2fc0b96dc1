"""What goes over the socket: text is JSON; a frame is a JSON header and the raw bytes of its pictures."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from adamas.play.dataset_viewer import Look
from adamas.play.keys import used
from adamas.play.session import Session
from adamas.play.settings import describe
from adamas.play.step import tempered
from adamas.utils.errors import UserError


def parse(message: str | bytes) -> dict[str, Any]:
    """A command from the page. UserError when it is not a JSON object."""
    try:
        command = json.loads(message) if isinstance(message, str) else None
    except (ValueError, RecursionError):
        command = None
    if not isinstance(command, dict):
        raise UserError("a message must be text, one JSON object")
    return command


def pack(header: dict[str, Any], pictures: list[np.ndarray]) -> bytes:
    """The header's length in bytes (little-endian uint32), the header, then each picture, uint8 (84, 84), row by row."""
    text = json.dumps(header, allow_nan=False).encode()
    return b"".join([struct.pack("<I", len(text)), text, *(np.ascontiguousarray(picture) for picture in pictures)])


def hello(session: Session) -> dict[str, Any]:
    """What the page needs to know once."""
    agent = session.agent
    parameters = sum(parameter.numel() for parameter in agent.world.parameters())
    return {
        "type": "hello",
        "game": agent.config.env,
        "run": str(agent.folder.path),
        "checkpoint": agent.checkpoint,
        "updates": agent.updates,
        "parameters": parameters,
        "device": str(agent.models.device),
        "actions": list(agent.meanings),
        "keys": used(agent.meanings),
        "controls": [control(session, field) for field in describe(session.settings)],
        **shelf(session),
    }


def control(session: Session, field: dict[str, Any]) -> dict[str, Any]:
    """A setting with the choices that this agent has."""
    if field["name"] == "start":
        return {**field, "choices": session.starts.sources}
    if field["name"] == "noise":
        walks_back = session.agent.config.denoiser.objective == "previous_frame"
        return {**field, "choices": [name for name in field["choices"] if (name == "previous_frame") == walks_back]}
    return field


def shelf(session: Session) -> dict[str, Any]:
    """What there is to look at and to download."""
    return {"sources": session.library.sources(), "recordings": [path.name for path in session.library.files()]}


def frame(session: Session, **clock: Any) -> bytes:
    """The moment as the page shows it. `clock` is what the server knows of time."""
    moment, real = session.moment, session.moment.real
    pictures = {"dream": moment.frame} | ({"reality": real.obs} if real else {})
    shown = session.settings.strip
    for number, (noisy, clean) in enumerate(moment.trace if shown else [], 1):
        pictures |= {f"noisy {number}": noisy[0].cpu().numpy(), f"clean {number}": clean[0].cpu().numpy()}
    header = {
        "type": "frame",
        "pictures": list(pictures),
        "step": moment.step,
        "action": moment.action,
        "reward": moment.reward,
        "terminated": moment.terminated,
        "return": moment.total,
        "over": session.over,
        "real": {"reward": real.reward, "return": real.total, "over": real.over} if real else None,
        "probabilities": tempered(session.settings, moment).softmax(-1).tolist(),
        "value": moment.thought.value,
        "key": session.key_number,
        "who": session.who,
        "paused": session.paused,
        "past": session.past,
        "ahead": session.ahead,
        "recording": session.recorder.steps if session.recorder else None,
        "settings": {field["name"]: field["value"] for field in describe(session.settings)},
        **clock,
    }
    return pack(header, list(pictures.values()))


def look(found: Look) -> bytes:
    return pack({"type": "look", "pictures": ["look"], **found.facts}, [found.obs])
