"""Every setting of a run: one dataclass field each, with its unit, its default and its bounds.

The defaults are the published DIAMOND hyperparameters (arXiv 2405.12399) at 84x84 grey; a preset is a
small YAML file in config/preset that changes some of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional  # OmegaConf 2.3 does not read `X | None`

SIZE = 84  # pixels a side of a frame
SEGMENT_FRAMES = 19  # of a training segment of the reward/end model
SIGMA_MIN = 2e-3  # the least noise level, in training and in sampling
PARTS = ("denoiser", "reward_end", "actor_critic", "q_network")  # a run has one of the last two
MEANING = (  # settings without which weights mean something else, though they would fit
    "network.architecture",
    "denoiser.target",
    "denoiser.offset_noise",
)


def setting(default: Any, help: str, **check: Any) -> Any:
    """A config field. `check` is any of `choices=`, `least=`, `most=` and `above=`."""
    metadata = {"help": help, **check}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Atari:
    """The emulator. One agent step is 4 emulator frames."""

    repeat_action_probability: float = setting(
        0.0, "sticky actions: chance that a frame repeats the last action", least=0, most=1
    )
    max_episode_steps: int = setting(
        27_000, "agent steps after which a game is truncated, also one of another env", least=1, most=500_000_000
    )


@dataclass
class Collection:
    """How much real experience, and when."""

    steps: int = setting(100_000, "agent steps in all", least=1)
    first_steps: int = setting(5_000, "least agent steps of the first epoch", least=1)
    first_steps_most: int = setting(
        10_000,
        "most agent steps of the first epoch, which goes on until 10 steps had a reward of the rarer signs",
        least=1,
    )
    steps_per_epoch: int = setting(100, "agent steps in each later epoch", least=1)


@dataclass
class Replay:
    """Which stored segments a batch is made of."""

    age_weights: list[float] = setting(
        [0.1, 0.1, 0.1, 0.7],
        "share of the samples from each age group of episodes, oldest first; a Q-network draws real steps uniformly",
        least=0,
    )
    event_share: float = setting(
        0.0, "share of the world model's segments around a reward or an end, which are rare", least=0, most=0.99
    )
    direction_change_share: float = setting(
        0.0,
        "share of the denoiser's segments whose target shows a small mover that has just changed its direction",
        least=0,
        most=0.99,
    )


@dataclass
class Network:
    """What the networks have in common, but for the CNN of a Q-network."""

    architecture: str = setting(
        "diamond",
        "diamond: as published; adamas: no attention, encoders end in an activation and a layer norm, and reward/end "
        "reads the newest frame and the change that led to it",
        choices=("diamond", "adamas"),
    )
    patch: int = setting(1, "pixels are unshuffled into patches of this size before each network", choices=(1, 2, 4))
    condition_channels: int = setting(
        256, "width of the denoiser's condition (noise level and actions); reward/end has half of it", least=8
    )
    lstm_dim: int = setting(512, "width of both LSTMs", least=1)


@dataclass
class Optimization:
    """One AdamW and its budget. An epoch makes `updates` updates, the first epoch `first_updates`."""

    first_updates: int = setting(10_000, "updates in the first epoch", least=0)
    updates: int = setting(400, "updates in each later epoch", least=0)
    batch_size: int = setting(
        32, "segments or rollouts an update; of a Q-network also real transitions an optimizer step", least=1
    )
    learning_rate: float = setting(1e-4, "AdamW's step size, reached after a warm-up", above=0)
    decay_updates: int = setting(
        0,
        "updates, of a Q-network optimizer steps, over which the learning rate falls linearly to a tenth; 0: it stays",
        least=0,
    )


@dataclass
class Denoiser:
    """The diffusion model of the next frame (Karras et al. 2022, with the paper's symbols)."""

    target: str = setting(
        "frame", "what is diffused: the next frame, or its change from the last one", choices=("frame", "change")
    )
    context: int = setting(4, "past frames, and as many actions, that condition the next frame", least=2)
    channels: list[int] = setting([64, 64, 64, 64], "channels at each level of the U-Net, finest first", least=1)
    depths: list[int] = setting([2, 2, 2, 2], "residual blocks at each level", least=1)
    offset_noise: float = setting(0.3, "standard deviation of the noise that a whole frame shares", least=0)
    P_mean: float = setting(-0.4, "mean of ln(sigma) in training")
    P_std: float = setting(1.2, "standard deviation of ln(sigma) in training", above=0)
    sigma_max: float = setting(20.0, "training sigmas are clipped to at most this", above=SIGMA_MIN)
    motion_weight: float = setting(
        1.0, "weight of the squared error near small things that move, where that of other pixels is 1", least=1
    )
    autoregressive_steps: int = setting(
        1, "frames of a training segment that the model generates and is then shown", least=0
    )
    autoregressive_after: int = setting(0, "updates that come before the first generated frame is shown", least=0)
    ema_decay: float = setting(
        0.0, "decay of the averaged weights used for imagination; 0 uses the raw weights", least=0, most=0.99999
    )
    max_grad_norm: float = setting(1.0, "gradients are scaled down to this l2 norm", above=0)
    optimization: Optimization = field(default_factory=Optimization)


@dataclass
class Sampler:
    """How the next frame is drawn from the denoiser."""

    method: str = setting(
        "euler",
        "steps of first or of second order; heun gained nothing, and does harm below 5 steps",
        choices=("euler", "heun"),
    )
    steps: int = setting(3, "denoising steps a frame", least=1)
    sigma_max: float = setting(5.0, "first noise level", above=SIGMA_MIN)
    initial_noise: str = setting(
        "unit",
        "the first noise: of deviation 1 (as in DIAMOND), or of sigma_max (as in EDM)",
        choices=("unit", "sigma_max"),
    )
    s_churn: float = setting(0.0, "S_churn: noise added back over the whole trajectory", least=0)


@dataclass
class RewardEnd:
    """The model of reward and episode end."""

    channels: list[int] = setting([32, 32, 32, 32], "channels at each level of the CNN, finest first", least=1)
    depths: list[int] = setting([2, 2, 2, 2], "residual blocks at each level", least=1)
    imagined_share: float = setting(
        0.0, "share of the updates on imagined frames, with the rewards and ends that were real", least=0, most=1
    )
    predict_divergence: bool = setting(
        False, "learn from imagined frames where a rollout loses what moves, and cut what the policy learns from there"
    )
    optimization: Optimization = field(default_factory=Optimization)


@dataclass
class ActorCritic:
    """policy=imagined: the policy and its value, trained on imagined rollouts of `horizon` steps."""

    channels: list[int] = setting([32, 32, 64, 64], "channels of the CNN, which halves the frame after each", least=1)
    frame_stack: int = setting(
        1, "newest frames that the CNN sees: the last one, and the changes that led to it", least=1
    )
    horizon: int = setting(15, "steps of a rollout", least=1)
    discount: float = setting(0.985, "gamma", least=0, most=1)
    entropy_weight: float = setting(0.001, "weight of the entropy bonus", least=0)
    epochs: int = setting(1, "passes over each batch of rollouts (1: REINFORCE; more: PPO, advantages scaled)", least=1)
    minibatches: int = setting(1, "parts of the batch, each of which makes a step of the optimizer", least=1)
    ema_decay: float = setting(
        0.0, "decay of the averaged weights that play the game; 0 plays the raw weights", least=0, most=0.99999
    )
    optimization: Optimization = field(default_factory=lambda: Optimization(first_updates=5_000))


@dataclass
class QNetwork:
    """policy=model_free, dyna: the values of actions, learned off-policy from the replay, with dyna also from imagined rollouts.

    `optimization.first_updates` and `updates` are of dyna.
    """

    learning_starts: int = setting(1_600, "collected steps before the first optimizer step that follows one", least=1)
    replay_ratio: float = setting(1.0, "optimizer steps for each collected step", least=0)
    horizon: int = setting(15, "dyna: steps of an imagined rollout", least=1)
    imagined_share: float = setting(
        0.25,
        "dyna: imagined transitions that join each batch of real ones, once there are some, as a share of it",
        above=0,
        most=1,
    )
    steps_per_update: int = setting(
        50, "dyna: optimizer steps of an update, which first imagines optimization.batch_size rollouts", least=1
    )
    n_step: int = setting(10, "rewards of a return, before the target network's value stands in for the rest", least=1)
    discount: float = setting(0.99, "gamma", least=0, most=1)
    ema_decay: float = setting(
        0.995, "decay of the averaged weights, which are the target network and play the game", above=0, most=0.99999
    )
    optimization: Optimization = field(default_factory=lambda: Optimization(first_updates=100, updates=8))


@dataclass
class Evaluation:
    """Full games with their real score, and a dream beside reality."""

    every_epochs: int = setting(10, "epochs from one evaluation to the next", least=1)
    games: int = setting(4, "full games an evaluation", least=1)
    final_games: int = setting(100, "full games at the end of the run", least=1)
    dream_steps: int = setting(50, "steps of the imagined rollouts that are compared with real ones", least=1)
    dreams: int = setting(16, "imagined rollouts of each set, random play and the agent's", least=1)


@dataclass
class Checkpoint:
    """A save also happens at the end of the run and when it is asked to stop."""

    every_minutes: float = setting(10.0, "wall-clock minutes from one save to the next", above=0)


@dataclass
class Config:
    """A whole run."""

    @property
    def has_world_model(self) -> bool:
        """Whether it learns one and dreams."""
        return self.policy != "model_free"

    @property
    def policy_part(self) -> str:
        """The one of PARTS that plays."""
        return "actor_critic" if self.policy == "imagined" else "q_network"

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of PARTS that it trains."""
        return ("denoiser", "reward_end", self.policy_part) if self.has_world_model else (self.policy_part,)

    preset: str = setting("diamond", "the file of config/preset that this run started from")
    env: str = setting(
        "Breakout",
        "an Atari game, as ale-py spells it: Breakout, MsPacman, ...; or any Gymnasium id: CarRacing-v3, my_game:Ball-v0",
    )
    env_kwargs: Any = setting(
        None, "arguments of an env that is no Atari game, as gymnasium.make takes them: {continuous:false}"
    )
    seed: int = setting(0, "one seed gives one run, bit for bit, on CPU", least=0, most=2**31 - 1)
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps")
    precision: str = setting(
        "auto",
        "of convolutions and matrix products; auto: bfloat16 where the chip has it; float32: without TF32",
        choices=("auto", "float32", "bfloat16"),
    )
    compile: Any = setting(
        "auto",
        "the networks but a Q-network are compiled; auto: on a CUDA GPU with a compiler (on a CPU it takes longer than it saves)",
        choices=("auto", True, False),
    )
    cuda_graphs: Any = setting(
        "auto",
        "an update is recorded once and then replayed as one launch; auto: in one process on a CUDA GPU",
        choices=("auto", True, False),
    )
    micro_batch: int = setting(
        0, "rows of a batch of the world model whose gradients are computed at a time, to save memory; 0: all", least=0
    )
    policy: str = setting(
        "imagined",
        "imagined: an actor-critic that learns in imagination alone; model_free: Q-learning from the replay, without a world model; "
        "dyna: Q-learning from the replay and from imagination",
        choices=("imagined", "model_free", "dyna"),
    )
    runs: str = setting("runs", "folder that holds the run folders")
    resume: Optional[str] = setting(None, "a run folder to go on with")
    dataset: Any = setting(
        None,
        "stored episodes to train on, without collecting: a folder, or [A:0.8,B:0.2] of a share of the samples each",
    )
    initialize: dict[str, Any] = field(
        default_factory=lambda: {"from": None, "parts": list(PARTS)},
        metadata={"help": {"from": "a run folder, or a checkpoint, to take weights from", "parts": "which to take"}},
    )
    final_epochs: int = setting(50, "epochs after the last collection; with policy=model_free none", least=0)
    atari: Atari = field(default_factory=Atari)
    collection: Collection = field(default_factory=Collection)
    replay: Replay = field(default_factory=Replay)
    network: Network = field(default_factory=Network)
    denoiser: Denoiser = field(default_factory=Denoiser)
    sampler: Sampler = field(default_factory=Sampler)
    reward_end: RewardEnd = field(default_factory=RewardEnd)
    actor_critic: ActorCritic = field(default_factory=ActorCritic)
    q_network: QNetwork = field(default_factory=QNetwork)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
