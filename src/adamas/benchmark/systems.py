"""Runs that belong together, and how they depart from the benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from adamas.config import Config
from adamas.config.help import all_settings, shown
from adamas.training.run_records import Outcome

STEPS, GAMES = 100_000, 100  # of the benchmark: agent steps of experience, and full games at the end
# Settings that runs of one system may differ in: which run it is, where it was made, and what was looked at on the way.
# `precision` is none of them: weights learned in bfloat16 are others (auto is one setting, whatever a chip makes of it). Nor is
# `evaluation.final_games`, the score's own.
NEUTRAL = {"env", "seed", "preset", "runs", "resume", "device", "compile", "cuda_graphs", "checkpoint", "micro_batch"}
LOOKED_AT = {"evaluation"}  # a section of which `final_games` alone is not neutral
UNREAD = {  # settings and sections that a run with this policy does not read
    "imagined": {"q_network"},
    "dyna": {"actor_critic"},
    "model_free": {"denoiser", "sampler", "reward_end", "actor_critic", "network", "replay", "final_epochs"}
    | {f"q_network.{name}" for name in ("horizon", "imagined_share", "steps_per_update")}
    | {f"q_network.optimization.{name}" for name in ("first_updates", "updates")},
}


def systems(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Runs that differ in game and seed alone belong together, under a name that says how they depart from the benchmark.

    Where one name stands for several settings they are numbered.
    """
    groups: dict[str, dict[tuple[tuple[str, str], ...], list[Outcome]]] = {}
    for outcome in outcomes:
        settings = tuple(settings_of(outcome.config).items())
        groups.setdefault(name_of(outcome.config), {}).setdefault(settings, []).append(outcome)
    return {
        name if len(group) == 1 else f"{name} #{i}": runs
        for name, group in groups.items()
        for i, runs in enumerate(group.values(), start=1)
    }


def differences(groups: Mapping[str, Sequence[Outcome]]) -> dict[str, str]:
    """{"adamas cpu #2": "sampler.sigma_max=1.5 ..."}: the settings in which a system of `systems` differs from #1 of its name."""
    told: dict[str, str] = {}
    of_first: dict[str, dict[str, str]] = {}
    for system, (run, *_) in groups.items():
        settings = settings_of(run.config)
        first = of_first.setdefault(name_of(run.config), settings)
        if apart := settings.items() - first.items():
            told[system] = " ".join(f"{setting}={value}" for setting, value in sorted(apart))
    return told


def commits_of(groups: Mapping[str, Sequence[Outcome]]) -> dict[str, list[str]]:
    """The commits of each system whose runs were not all made by one, at all their starts."""
    found = {
        system: list(dict.fromkeys(commit for run in runs for commit in run.origin.get("commits", [])))
        for system, runs in groups.items()
    }
    return {system: commits for system, commits in found.items() if len(commits) > 1}


def changed_on_the_way(run: Outcome) -> list[str]:
    """The settings, as typed, that a resume gave a run which began with others: it was not made by its config alone."""
    words = run.origin.get("resumed_with", [])
    return [word for word in words if not _is_neutral(word.lstrip("+").partition("=")[0])]


def name_of(config: Config) -> str:
    """ "adamas diamond", "adamas cpu (20,000 steps, 20 games)"."""
    there = ", ".join(departures(config))
    return f"adamas {config.preset}" + (f" ({there})" if there else "")


def departures(config: Config) -> list[str]:
    """How a run differs from the benchmark, in words."""
    known = [
        ("model-free Q-learning", config.policy == "model_free"),
        ("Dyna", config.policy == "dyna"),
        ("stored dataset", config.dataset is not None),
        ("other run's weights", config.initialize["from"] is not None),
        (f"{config.collection.steps:,} steps", config.collection.steps != STEPS and config.dataset is None),
        (f"{config.evaluation.final_games} games", config.evaluation.final_games != GAMES),
        (f"games of {config.atari.max_episode_steps:,} steps", config.atari.max_episode_steps != 27_000),
        ("sticky actions", config.atari.repeat_action_probability > 0),
    ]
    return [words for words, departs in known if departs]


def newest_of_each_seed(runs: Sequence[Outcome]) -> dict[str, dict[int, Outcome]]:
    """{game: {seed: finished run}}, both in order. Of several runs of one game and seed the newest counts."""
    table: dict[str, dict[int, Outcome]] = {}
    for run in sorted(runs, key=lambda run: (run.config.env, run.config.seed, run.age)):
        if run.final is not None:
            table.setdefault(run.config.env, {})[run.config.seed] = run
    return table


def settings_of(config: Config) -> dict[str, str]:
    """{setting: its value as one would type it}: the same for runs of one system."""
    unread = UNREAD[config.policy] | ({"initialize.parts"} if config.initialize["from"] is None else set())
    told = (
        setting
        for setting in all_settings(config)
        if setting.kind is not None
        and not unread & {setting.name, setting.name.partition(".")[0]}
        and not _is_neutral(setting.name)
    )
    return {setting.name: shown(setting.default) for setting in told}


def _is_neutral(name: str) -> bool:
    section = name.partition(".")[0]
    return bool(NEUTRAL & set(name.split("."))) or (section in LOOKED_AT and name != "evaluation.final_games")
