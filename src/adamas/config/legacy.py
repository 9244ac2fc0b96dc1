"""Configs that were saved before settings were renamed and removed, translated to those of now."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from adamas.config.schema import Config
from adamas.utils.errors import UserError

RENAMED = {
    "age_weights": "replay.age_weights",
    "denoiser.event_share": "replay.event_share",
    "denoiser.turn_share": "replay.direction_change_share",
    "denoiser.small_weight": "denoiser.motion_weight",
    "denoiser.patch": "network.patch",
    "denoiser.condition_channels": "network.condition_channels",
    "denoiser.sigma_log_mean": "denoiser.P_mean",
    "denoiser.sigma_log_std": "denoiser.P_std",
    "denoiser.sigma_most": "denoiser.sigma_max",
    "denoiser.fed_back_frames": "denoiser.autoregressive_steps",
    "denoiser.fed_back_after": "denoiser.autoregressive_after",
    "denoiser.optimization.max_grad_norm": "denoiser.max_grad_norm",
    "reward_end.lstm_dim": "network.lstm_dim",
    "reward_end.dreamed_share": "reward_end.imagined_share",
    "reward_end.astray": "reward_end.predict_divergence",
    "actor_critic.frames": "actor_critic.frame_stack",
}
FIXED: dict[str, Any] = {  # settings that are constants now, with what they must have been
    "atari.frame_skip": 4,
    "atari.noop_max": 30,
    "denoiser.objective": "edm",
    "denoiser.change_scale": 4.0,
    "sampler.sigma_min": 2e-3,
    "sampler.rho": 7.0,
    "sampler.s_noise": 1.0,
    "sampler.s_tmin": 0.0,
    "sampler.s_tmax": math.inf,
    "actor_critic.lambda_": 0.95,
    "actor_critic.real_share": 0.0,
}


def translated(saved: dict[str, Any], path: str) -> dict[str, Any]:
    """A saved config, as plain dicts, in the settings of now. UserError for one that cannot be had any more.

    Args:
        saved: changed in place where it is of before.
        path: of its file, for the error.
    """
    for setting, value in FIXED.items():
        if _pop(saved, setting, value) != value:
            raise UserError(f"{path}: {setting} was not {value}, as it is in this version: use the one that wrote it")
    if saved.get("policy") == "model_free" and "q_network" not in saved:
        raise UserError(
            f"{path} has an actor-critic that learned in the real game, as policy=model_free was until 2026-11-29: "
            "use the version that wrote it"
        )
    if "minibatches" in saved.get("q_network", {}):  # until 2026-11-30
        saved["q_network"]["steps_per_update"] = saved["q_network"].pop("minibatches")
    if "age_weights" not in saved:
        return saved
    shortcut, attention = _pop(saved, "reward_end.shortcut", False), _pop(saved, "denoiser.attention", True)
    inputs = {_pop(saved, f"{part}.input", "frames") for part in ("denoiser", "reward_end")}
    read = {"changes" if saved.get("denoiser", {}).get("target", "frame") == "change" else "frames"}
    known = (shortcut, attention, inputs) in ((True, False, {"changes"}), (False, True, {"frames"}))
    if not known or inputs != read or saved.get("sampler", {}).get("initial_noise") == "previous_frame":
        raise UserError(f"{path} is of a network that this version does not have: use the version that wrote it")
    moved = {new: _pop(saved, old, None) for old, new in RENAMED.items()}
    _drop_unknown(saved, Config())
    for new, value in moved.items():
        if value is not None:
            section, _, name = new.rpartition(".")
            saved.setdefault(section, {})[name] = value
    saved.setdefault("network", {})["architecture"] = "adamas" if shortcut else "diamond"
    return saved


def _pop(saved: dict[str, Any], setting: str, default: Any) -> Any:
    *sections, name = setting.split(".")
    for section in sections:
        saved = saved.get(section, {})
    return saved.pop(name, default)


def _drop_unknown(saved: dict[str, Any], known: Any) -> None:
    """What else is a constant now concerns training alone."""
    for name in [*saved]:
        if not hasattr(known, name):
            saved.pop(name)
        elif dataclasses.is_dataclass(getattr(known, name)):
            _drop_unknown(saved[name], getattr(known, name))
