"""What goes over the socket: text is JSON; a frame is a JSON header and the raw bytes of its pictures."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from adamas.play.dataset_viewer import DatasetRow
from adamas.play.keys import used
from adamas.play.session import Session
from adamas.play.settings import can_churn, describe
from adamas.play.step import action_logits
from adamas.utils.errors import UserError


def parse(message: str | bytes) -> dict[str, Any]:
    """A message of the page. UserError when it is not a JSON object."""
    try:
        parsed = json.loads(message) if isinstance(message, str) else None
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise UserError("a message must be text, one JSON object")
    return parsed


def pack(header: dict[str, Any], pictures: list[np.ndarray]) -> bytes:
    """The header's length in bytes (little-endian uint32), the header, then each picture, uint8 (84, 84), row by row."""
    text = json.dumps(header, allow_nan=False).encode()
    return b"".join([struct.pack("<I", len(text)), text, *(np.ascontiguousarray(picture) for picture in pictures)])


def hello(session: Session) -> dict[str, Any]:
    """What the page needs to know once."""
    agent = session.agent
    controls = [control(session, field) for field in describe(session.settings)]
    return {
        "type": "hello",
        "game": agent.config.env,
        "run": str(agent.folder.path),
        "checkpoint": agent.checkpoint,
        "updates": agent.updates,
        "parameters": sum(parameter.numel() for parameter in agent.models.world.parameters()),
        "device": str(agent.models.device),
        "actions": list(agent.models.action_meanings),
        "keys": used(agent.models.action_meanings),
        "controls": [field for field in controls if field],
        **stored(session),
    }


def control(session: Session, field: dict[str, Any]) -> dict[str, Any] | None:
    """A setting with the choices that this agent has; None for one that it does not have."""
    if field["name"] == "s_churn" and not can_churn(session.agent.config.sampler):
        return None
    choices = {"initial_state": session.initial_states.sources}
    return {**field, "choices": choices[field["name"]]} if field["name"] in choices else field


def stored(session: Session) -> dict[str, Any]:
    """What can be viewed, and downloaded."""
    recordings = [path.name for path in session.datasets.recording_files()]
    return {"sources": session.datasets.sources(), "recordings": recordings}


def frame(session: Session, step_ms: float | None = None) -> bytes:
    """The state of play. `step_ms` is how long its step took, if it is a new one."""
    state, real = session.state, session.state.real
    pictures = {"dream": state.obs} | ({"real": real.obs} if real else {})
    shown = session.settings.show_denoising
    for number, (noisy, denoised) in enumerate(state.trace if shown else [], 1):
        pictures |= {f"noisy {number}": noisy[0].cpu().numpy(), f"denoised {number}": denoised[0].cpu().numpy()}
    header = {
        "type": "frame",
        "pictures": list(pictures),
        "step": state.step,
        "action": state.action,
        "reward": state.reward,
        "terminated": state.terminated,
        "diverged_at": state.diverged_at,
        "return": state.episode_return,
        "ended": session.ended,
        "real": {"reward": real.reward, "return": real.episode_return, "ended": real.ended} if real else None,
        "probabilities": action_logits(session.settings, state).softmax(-1).tolist(),
        "value": state.policy.value,
        "keys_number": session.keys_number,
        "player": session.player,
        "paused": session.paused,
        "past": session.history.past,
        "future": session.history.future,
        "recorded_steps": session.recorder.steps if session.recorder else None,
        "settings": {field["name"]: field["value"] for field in describe(session.settings)},
        "step_ms": step_ms,
    }
    return pack(header, list(pictures.values()))


def dataset_row(row: DatasetRow) -> bytes:
    return pack({"type": "dataset_row", "pictures": ["dataset_row"], **row.facts}, [row.obs])
