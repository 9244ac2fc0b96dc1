"""Trains Stable-Baselines3's PPO in the world model of a run: `python scripts/studies/sb3_ppo.py RUN`.

An example of another library's agent in the Gymnasium env `adamas:WorldModel-v0`: it dreams for so many minutes and then
plays full games of the real thing. Needs `pip install -e '.[sb3]'`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import ReshapeObservation

try:
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecMonitor
except ImportError:
    sys.exit("error: this script needs Stable-Baselines3: pip install -e '.[sb3]'")

from adamas.config import SIZE
from adamas.envs.atari import AtariEnv
from adamas.training.load_run import SavedRun
from adamas.utils.errors import exit_code

FRAMES = 4  # that the policy sees, as it has no memory
SHAPE = (SIZE, SIZE, 1)  # of a frame, as Stable-Baselines3 wants it


class DreamVecEnv(VecEnv):
    """A Gymnasium vector env with same-step autoreset as Stable-Baselines3's kind of vector env."""

    def __init__(self, env: VectorEnv) -> None:
        self.env = env
        super().__init__(env.num_envs, Box(0, 255, SHAPE, np.uint8), env.single_action_space)

    def reset(self) -> np.ndarray:
        obs, _ = self.env.reset(seed=self._seeds)
        self._reset_seeds()
        return obs[..., None]

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, reward, terminated, truncated, infos = self.env.step(self.actions)
        done = terminated | truncated
        said: list[dict[str, Any]] = [{"TimeLimit.truncated": bool(cut)} for cut in truncated]
        for i in np.flatnonzero(done):
            said[i]["terminal_observation"] = infos["final_obs"][i][..., None]
        return obs[..., None], reward.astype(np.float32), done, said

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the dreams are one batch: no attribute belongs to one of them")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        return [getattr(self.env, method_name)(*args, **kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


class Deadline(BaseCallback):
    """Ends the training after so many minutes."""

    def __init__(self, minutes: float) -> None:
        super().__init__()
        self.end = time.monotonic() + 60 * minutes

    def _on_step(self) -> bool:
        return time.monotonic() < self.end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--minutes", type=float, default=1.0, help="of training")
    parser.add_argument("--envs", type=int, default=16, help="dreams side by side")
    parser.add_argument("--horizon", type=int, default=50, help="steps of a dream")
    parser.add_argument("--rollout", type=int, default=64, help="steps of each dream between two updates")
    parser.add_argument("--games", type=int, default=4, help="full games of the real thing at the end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="of the world model")
    parser.add_argument("--out", type=Path, help="a .zip to save the agent to")
    arguments = parser.parse_args()
    train(arguments)


def train(a: argparse.Namespace) -> None:
    dreams = gymnasium.make_vec("adamas:WorldModel-v0", num_envs=a.envs, run=a.run, horizon=a.horizon, device=a.device)
    env = VecFrameStack(VecMonitor(DreamVecEnv(dreams)), FRAMES)
    agent = PPO(
        "CnnPolicy", env, n_steps=a.rollout, batch_size=min(256, a.envs * a.rollout), seed=a.seed, device=a.device
    )
    agent.learn(sys.maxsize, callback=Deadline(a.minutes))
    episodes = agent.ep_info_buffer or []
    print(
        f"{agent.num_timesteps:,} dreamed steps; reward of the last {len(episodes)} dreams {mean_return(episodes):.2f}"
    )
    if a.out:
        agent.save(a.out)
    if a.games:
        returns, _ = evaluate_policy(
            agent, real_games(a.run), a.games, deterministic=False, return_episode_rewards=True
        )
        print(f"mean return of {a.games} full games: {np.mean(returns):.2f}")


def mean_return(episodes: Iterable[dict[str, float]]) -> float:
    returns = [episode["r"] for episode in episodes]
    return float(np.mean(returns)) if returns else float("nan")


def real_games(run: Path) -> VecEnv:
    """The run's game itself, whole games, seen as the dreams are."""
    config = SavedRun(run).config
    one = DummyVecEnv([lambda: ReshapeObservation(AtariEnv(config.env, config.atari, episodic_life=False), SHAPE)])
    return VecFrameStack(VecMonitor(one), FRAMES)


if __name__ == "__main__":
    sys.exit(exit_code(main))
