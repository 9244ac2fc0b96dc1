"""Which kinds of work of a run are large enough for several threads.

The answer depends on the config alone, never on a measurement, so that one seed gives one run.
"""

from __future__ import annotations

from adamas.config import SIZE, Config
from adamas.config.schema import MODEL_FREE_ENVS, SEGMENT_FRAMES
from adamas.evaluation.dreams import GROUP
from adamas.utils.threads import Threads

ACTING, PLAYING, GAMES, DREAMING = "collect", "play", "games", "first dream"  # kinds of work beside PARTS
WORTH_THREADS = 8_000_000  # multiplications by one tap of a convolution: with fewer, threads wait longer than they work


def threads_for(config: Config, most: int) -> Threads:
    """One thread for small work, `most` for large work."""
    pixels = (SIZE // config.network.patch) ** 2
    denoiser, reward_end, policy = config.denoiser, config.reward_end, config.actor_critic

    def rows_at_once(batch: int) -> int:
        return min(batch, config.micro_batch or batch)

    def size(rows: int, channels: int) -> int:
        """Multiplications, about, of a convolution at the finest level of a network."""
        return rows * pixels * channels**2

    sizes = {
        ACTING: size(1, policy.channels[0]),
        PLAYING: size(MODEL_FREE_ENVS, policy.channels[0]),
        GAMES: size(config.evaluation.games, policy.channels[0]),
        DREAMING: size(GROUP, denoiser.channels[0]),
        "denoiser": size(rows_at_once(denoiser.optimization.batch_size), denoiser.channels[0]),
        "reward_end": size(SEGMENT_FRAMES * rows_at_once(reward_end.optimization.batch_size), reward_end.channels[0]),
        "actor_critic": size(policy.optimization.batch_size, denoiser.channels[0]),
    }
    return Threads({kind: most if n >= WORTH_THREADS else 1 for kind, n in sizes.items()}, most)
