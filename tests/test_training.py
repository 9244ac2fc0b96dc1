"""Parts of training that no run of the program shows."""

from __future__ import annotations

import pytest
import torch

from adamas import config
from adamas.agent.actor_critic import ActorCritic
from adamas.config import Config
from adamas.envs.atari import AtariEnv
from adamas.evaluation import clips
from adamas.training.progress import Progress, plan
from adamas.training.updates import Generators
from adamas.utils.errors import UserError


def test_games_that_are_too_short_for_a_clip_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "PATIENCE", 2)
    env = AtariEnv("Breakout", config.Atari(max_episode_steps=5), episodic_life=False)
    policy = ActorCritic(config.ActorCritic(patch=4, channels=[8], lstm_dim=8), num_actions=4)
    with pytest.raises(UserError, match="2 games in a row ended before 6 steps"):
        clips.record(policy, env, count=1, steps=6, seed=0)


def test_generators_saved_on_another_kind_of_chip_start_a_new_stream() -> None:
    saved = Generators.seeded(0, torch.device("cpu"))
    state = {**saved.state_dict(), "noise": torch.zeros(16, dtype=torch.uint8)}  # the size of a CUDA generator's
    loaded = Generators.seeded(1, torch.device("cpu"))
    loaded.load_state_dict(state)
    assert torch.equal(torch.rand(3, generator=loaded.data), torch.rand(3, generator=saved.data))
    assert not torch.equal(torch.rand(3, generator=loaded.noise), torch.rand(3, generator=saved.noise))


def test_the_published_plan() -> None:
    """5k steps, then 100 an epoch up to 100k, then 50 epochs: 1 + 950 + 50."""
    units = plan(Config())
    assert units["collect"] == 100_000
    assert units["denoiser"] == units["reward_end"] == 10_000 + 1_000 * 400
    assert units["actor_critic"] == 5_000 + 1_000 * 400
    assert units["evaluation"] == 101


def test_epochs_that_collect_nothing_after_the_first_are_final() -> None:
    progress = Progress()
    for collected in (0, 100, 0, 0):
        progress.tick("collect", collected)
        progress.next_epoch()
    assert (progress.epoch, progress.final_epochs, progress.total["collect"]) == (4, 2, 100)
