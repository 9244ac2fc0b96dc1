"""The rules of a config: each setting within its bounds, and none at odds with another.

`check` is called on the config of a command, so that the rest of the code can trust what it is given.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from adamas.config.dataset_parts import parts_of
from adamas.config.help import shown
from adamas.config.schema import PARTS, SEGMENT_FRAMES, SIZE, Config
from adamas.utils.errors import UserError

SHORTER_DREAMS = "lower evaluation.dream_steps, or steps= of adamas evaluate"  # what to do where games are shorter


def check(config: Config) -> Config:
    """Returns `config`, or raises UserError naming the first setting that is out of bounds or at odds with another."""
    _check_fields(config, prefix="")
    for net, where in ((config.denoiser, "denoiser"), (config.reward_end, "reward_end")):
        _require(
            len(net.channels) == len(net.depths),
            f"{where}.channels has {len(net.channels)} levels but {where}.depths has {len(net.depths)}: give both one number a level",
        )
    _require(
        config.network.condition_channels % (2 * config.denoiser.context) == 0,
        f"network.condition_channels={config.network.condition_channels} must be a multiple of twice denoiser.context={config.denoiser.context}",
    )
    first, most = config.collection.first_steps, config.collection.first_steps_most
    _require(
        first <= most, f"collection.first_steps={first} is above collection.first_steps_most={most}: raise the second"
    )
    events, turns = config.replay.event_share, config.replay.direction_change_share
    _require(
        events + turns < 1,
        f"replay.event_share={events} and replay.direction_change_share={turns} leave nothing for other frames: together they must stay below 1",
    )
    _require(
        config.sampler.s_churn == 0 or config.sampler.method == "euler",
        f"sampler.s_churn={config.sampler.s_churn} works with sampler.method=euler only: set s_churn=0 or method=euler",
    )
    halvings, patches = len(config.actor_critic.channels), SIZE // config.network.patch
    _require(
        config.policy != "imagined" or patches >> halvings > 0,
        f"actor_critic.channels has {halvings} levels, too many to halve {patches} pixels that often: give fewer",
    )
    needed = config.denoiser.context - 1 + config.evaluation.dream_steps
    _require(
        not config.has_world_model or config.atari.max_episode_steps >= needed,
        f"evaluation.dream_steps={config.evaluation.dream_steps} takes games of {needed} steps, more than atari.max_episode_steps={config.atari.max_episode_steps}: {SHORTER_DREAMS}",
    )
    _require(sum(config.replay.age_weights) > 0, "replay.age_weights are all 0: at least one age group needs a weight")
    _require(
        not (config.dataset and config.policy == "model_free"),
        "policy=model_free learns in the real game and cannot use dataset=: drop one of the two",
    )
    _require(
        not config.reward_end.predict_divergence or config.reward_end.imagined_share > 0,
        "reward_end.predict_divergence=true needs imagined frames to learn from: set reward_end.imagined_share above 0",
    )
    context = config.denoiser.context
    _require(
        config.reward_end.imagined_share == 0 or context < SEGMENT_FRAMES,
        f"reward_end.imagined_share needs frames to imagine after denoiser.context={context}, and its segments have {SEGMENT_FRAMES}: lower the context or set reward_end.imagined_share=0",
    )
    rollouts, parts = config.actor_critic.optimization.batch_size, config.actor_critic.minibatches
    _require(
        config.policy != "imagined" or parts <= rollouts,
        f"actor_critic.minibatches={parts} is more than there are rollouts, {rollouts}: lower it",
    )
    q, steps = config.q_network, config.collection.steps
    _require(
        config.policy != "model_free" or q.replay_ratio > 0,
        "policy=model_free learns from the replay alone: set q_network.replay_ratio above 0",
    )
    follows = config.policy != "imagined" and not config.dataset and q.replay_ratio > 0
    _require(
        not follows or q.learning_starts < steps,
        f"no step would be followed by an update: q_network.learning_starts={q.learning_starts} must be below collection.steps={steps}",
    )
    _check_initialize(config.initialize)
    _require(
        config.env_kwargs is None or (isinstance(config.env_kwargs, dict) and _has_text_keys(config.env_kwargs)),
        f"env_kwargs={shown(config.env_kwargs)} must be arguments and their values: {{continuous:false}}",
    )
    parts_of(config.dataset)
    return config


def _has_text_keys(value: Any) -> bool:
    """At every depth, as JSON has them."""
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_has_text_keys, value.values()))
    return not isinstance(value, list) or all(map(_has_text_keys, value))


def _check_initialize(initialize: dict[str, Any]) -> None:
    unknown = sorted(set(initialize) - {"from", "parts"})
    _require(not unknown, f"unknown key 'initialize.{''.join(unknown[:1])}': initialize has 'from' and 'parts'")
    parts = initialize["parts"]
    _require(
        isinstance(parts, list) and bool(parts) and all(part in PARTS for part in parts),
        f"initialize.parts={parts} must be a list of some of {', '.join(PARTS)}",
    )
    source = initialize["from"]
    _require(
        source is None or (isinstance(source, str) and source != ""),
        f"initialize.from={source} must be the path of a run folder",
    )


def _check_fields(node: Any, prefix: str) -> None:
    for item in dataclasses.fields(node):
        value, name = getattr(node, item.name), prefix + item.name
        if dataclasses.is_dataclass(value):
            _check_fields(value, prefix=f"{name}.")
            continue
        choices = item.metadata.get("choices")
        if choices:
            _require(value in choices, f"{name}={shown(value)} is not one of {', '.join(map(shown, choices))}")
        _require(value != [], f"{name} is empty: give at least one number")
        for number in value if isinstance(value, list) else [value]:
            _require(
                not isinstance(number, float) or math.isfinite(number) or name == "checkpoint.every_minutes",
                f"{name}={number} is no finite number: give one",
            )
            check_bounds(name, number, item.metadata)


def check_bounds(name: str, number: Any, bounds: Any) -> None:
    """Raises UserError for a number beyond the `least`, `most` or `above` of a setting."""
    if "least" in bounds:
        _require(number >= bounds["least"], f"{name}={number} is too small: the least is {bounds['least']}")
    if "most" in bounds:
        _require(number <= bounds["most"], f"{name}={number} is too large: the most is {bounds['most']}")
    if "above" in bounds:
        _require(number > bounds["above"], f"{name}={number} must be above {bounds['above']}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)
