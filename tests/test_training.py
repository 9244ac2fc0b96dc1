"""Parts of training that no run of the program shows."""

from __future__ import annotations

import pytest
import torch
from helpers import CPU, small_network

from adamas import config
from adamas.agent.actor_critic import ActorCritic
from adamas.envs.atari import AtariEnv
from adamas.evaluation import clips
from adamas.training.generators import Generators
from adamas.utils.errors import UserError


def test_games_that_are_too_short_for_a_clip_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "PATIENCE", 2)
    env = AtariEnv("Breakout", config.Atari(max_episode_steps=5), episodic_life=False)
    policy = ActorCritic(config.ActorCritic(channels=[8]), small_network(), num_actions=4)
    with pytest.raises(UserError, match="2 games in a row ended before 6 steps"):
        clips.record(policy, env, count=1, steps=6, seed=0)


def test_generators_saved_on_another_kind_of_chip_start_a_new_stream() -> None:
    saved = Generators.seeded(0, CPU)
    state = {**saved.state_dict(), "noise": torch.zeros(16, dtype=torch.uint8)}  # the size of a CUDA generator's
    loaded = Generators.seeded(1, CPU)
    loaded.load_state_dict(state)
    assert torch.equal(torch.rand(3, generator=loaded.data), torch.rand(3, generator=saved.data))
    assert not torch.equal(torch.rand(3, generator=loaded.noise), torch.rand(3, generator=saved.noise))


def test_three_new_streams_depend_on_the_whole_key() -> None:
    """Of one seed, one rank, one part and one update: those of two ranks or of two updates have nothing in common."""
    drawn = []
    for key in ((0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 0, 0)):
        random = Generators.seeded(7, CPU)
        random.reseed(*key)
        drawn += [float(torch.rand((), generator=each)) for each in vars(random).values()]
    assert len(set(drawn)) == len(drawn)
    again = Generators.seeded(8, CPU)
    again.reseed(1, 0, 0, 0)
    assert [float(torch.rand((), generator=each)) for each in vars(again).values()] == drawn[-3:]
