"""Every knob of adamas: one dataclass field each, with its unit, its default and its bounds.

The defaults are the published DIAMOND hyperparameters (arXiv 2405.12399) at 84x84 grey; a preset is a
small YAML file in config/preset that changes some of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional  # OmegaConf 2.3 does not read `X | None`

SIZE = 84  # pixels a side of a frame
PARTS = ("denoiser", "reward_end", "actor_critic")
MEANING = (  # knobs without which weights mean something else, though they would fit
    "denoiser.target",
    "denoiser.objective",
    "denoiser.sigma_previous",
    "denoiser.change_scale",
    "denoiser.input",
    "denoiser.offset_noise",
    "reward_end.input",
)


def knob(default: Any, help: str, **check: Any) -> Any:
    """A config field. `check` is any of `choices=`, `least=`, `most=` and `above=`."""
    metadata = {"help": help, **check}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Atari:
    """The emulator. One agent step is `frame_skip` emulator frames."""

    frame_skip: int = knob(4, "emulator frames an agent step", least=1)
    noop_max: int = knob(30, "most no-op emulator frames after a reset", least=0)
    repeat_action_probability: float = knob(
        0.0, "sticky actions: chance that a frame repeats the last action", least=0, most=1
    )
    max_episode_steps: int = knob(27_000, "agent steps after which a game is truncated", least=1)


@dataclass
class Collection:
    """How much real experience, and when."""

    steps: int = knob(100_000, "agent steps in all", least=1)
    first_steps: int = knob(5_000, "least agent steps before the first update", least=1)
    first_steps_most: int = knob(10_000, "most agent steps before the first update", least=1)
    rare_rewards: int = knob(
        10, "rewards of the rarer signs (of -, 0 and +) to wait for before the first update", least=0
    )
    steps_per_epoch: int = knob(100, "agent steps in each later epoch", least=1)
    epsilon: float = knob(0.01, "chance of a uniformly random action", least=0, most=1)


@dataclass
class Optimization:
    """One AdamW and its budget. An epoch makes `updates` updates, the first epoch `first_updates`."""

    first_updates: int = knob(10_000, "updates in the first epoch", least=0)
    updates: int = knob(400, "updates in each later epoch", least=0)
    batch_size: int = knob(32, "segments an update", least=1)
    micro_batch: int = knob(
        0,
        "rows (of each process) whose gradients are computed at a time: less memory, but for the denoiser's noise the same update; 0: all",
        least=0,
    )
    learning_rate: float = knob(1e-4, "AdamW's step size", above=0)
    weight_decay: float = knob(1e-2, "AdamW's decoupled decay", least=0)
    warmup_updates: int = knob(100, "updates over which the learning rate rises linearly", least=0)
    decay_updates: int = knob(
        0, "updates over which the learning rate falls linearly to the share decay_to; 0: it stays", least=0
    )
    decay_to: float = knob(0.2, "share of the learning rate that is left after decay_updates", least=0, most=1)
    max_grad_norm: float = knob(1.0, "gradients are scaled down to this l2 norm", above=0)


@dataclass
class Denoiser:
    """The diffusion model of the next frame (Karras et al. 2022, with the paper's symbols)."""

    target: str = knob(
        "frame", "what is diffused: the next frame, or its change from the last one", choices=("frame", "change")
    )
    objective: str = knob(
        "edm",
        "what noise hides in training: the target (edm), or ever more of the previous frame (previous_frame)",
        choices=("edm", "previous_frame"),
    )
    sigma_previous: float = knob(
        5.0,
        "noise level at which nothing but the previous frame is behind the noise (objective=previous_frame)",
        above=0,
    )
    change_scale: float = knob(4.0, "a change is multiplied by this before diffusion (target=change)", above=0)
    input: str = knob(
        "frames",
        "how the past frames are shown: as they are, or as the newest one and the changes that led to it",
        choices=("frames", "changes"),
    )
    context: int = knob(4, "past frames, and as many actions, that condition the next frame", least=2)
    patch: int = knob(1, "pixels are unshuffled into patches of this size before the U-Net", choices=(1, 2, 4))
    channels: list[int] = knob([64, 64, 64, 64], "channels at each level of the U-Net, finest first", least=1)
    depths: list[int] = knob([2, 2, 2, 2], "residual blocks at each level", least=1)
    attention: bool = knob(True, "the two blocks in the middle attend over the whole frame")
    condition_channels: int = knob(256, "width of the condition (noise level and actions)", least=8)
    sigma_data: float = knob(
        0.5, "standard deviation of frames in [-1, 1]; measured from the replay for target=change", above=0
    )
    offset_noise: float = knob(0.3, "standard deviation of the noise that a whole frame shares", least=0)
    sigma_log_mean: float = knob(-0.4, "P_mean: mean of log(sigma) in training")
    sigma_log_std: float = knob(1.2, "P_std: standard deviation of log(sigma) in training", above=0)
    sigma_least: float = knob(2e-3, "training sigmas are clipped to at least this", above=0)
    sigma_most: float = knob(20.0, "training sigmas are clipped to at most this", above=0)
    event_share: float = knob(
        0.0, "share of the training segments whose target follows a reward or an end", least=0, most=0.99
    )
    turn_share: float = knob(
        0.0,
        "share of the training segments whose target shows something small that has just turned",
        least=0,
        most=0.99,
    )
    small_weight: float = knob(
        1.0, "weight of the squared error near small things that move, where that of other pixels is 1", least=1
    )
    fed_back_frames: int = knob(1, "frames of a training segment that the model generates and is then shown", least=0)
    fed_back_after: int = knob(0, "updates that come before the first frame is fed back", least=0)
    ema_decay: float = knob(
        0.0, "decay of the averaged weights used for imagination; 0 uses the raw weights", least=0, most=0.99999
    )
    optimization: Optimization = field(default_factory=Optimization)


@dataclass
class Sampler:
    """How the next frame is drawn from the denoiser."""

    method: str = knob("euler", "first or second order steps (heun: 5 steps or more)", choices=("euler", "heun"))
    steps: int = knob(3, "denoising steps a frame", least=1)
    sigma_max: float = knob(5.0, "first noise level", above=0)
    sigma_min: float = knob(2e-3, "last noise level before 0", above=0)
    rho: float = knob(7.0, "curvature of the noise schedule", above=0)
    initial_noise: str = knob(
        "unit",
        "the first noise: of deviation 1 (less drift), of sigma_max (as in EDM), or of sigma_max on the previous frame",
        choices=("unit", "sigma_max", "previous_frame"),
    )
    s_churn: float = knob(0.0, "S_churn: noise added back over the whole trajectory", least=0)
    s_tmin: float = knob(0.0, "S_tmin: no churn below this sigma", least=0)
    s_tmax: float = knob(float("inf"), "S_tmax: no churn above this sigma", least=0)
    s_noise: float = knob(1.0, "S_noise: scale of the churned noise", above=0)


@dataclass
class RewardEnd:
    """The model of reward and episode end."""

    patch: int = knob(1, "pixels are unshuffled into patches of this size before the CNN", choices=(1, 2, 4))
    channels: list[int] = knob([32, 32, 32, 32], "channels at each level of the CNN, finest first", least=1)
    depths: list[int] = knob([2, 2, 2, 2], "residual blocks at each level", least=1)
    attention: bool = knob(True, "the two blocks in the middle attend over the whole frame")
    condition_channels: int = knob(128, "width of the action condition", least=1)
    lstm_dim: int = knob(512, "width of the LSTM", least=1)
    input: str = knob(
        "frames",
        "what is read of a transition: both frames, or the second one and its change",
        choices=("frames", "changes"),
    )
    shortcut: bool = knob(False, "layer norm after the CNN, and a linear way from there past the LSTM")
    segment_frames: int = knob(19, "frames of a training segment", least=2)
    event_share: float = knob(
        0.0, "share of the training segments that is drawn around rewards and ends, which are rare", least=0, most=0.99
    )
    dreamed_share: float = knob(
        0.0, "share of the updates on dreamed frames, with the rewards and ends that were real", least=0, most=1
    )
    astray: bool = knob(
        False, "learn from dreamed frames where a dream loses what moves, and cut what the policy learns from there"
    )
    optimization: Optimization = field(default_factory=lambda: Optimization(max_grad_norm=100.0))


@dataclass
class ActorCritic:
    """The policy and its value, trained on rollouts of `horizon` steps."""

    patch: int = knob(1, "pixels are unshuffled into patches of this size before the CNN", choices=(1, 2, 4))
    channels: list[int] = knob([32, 32, 64, 64], "channels of the CNN, which halves the frame after each", least=1)
    lstm_dim: int = knob(512, "width of the LSTM", least=1)
    frames: int = knob(1, "newest frames that the CNN sees: the last one, and the changes that led to it", least=1)
    feature_norm: bool = knob(False, "layer norm between the CNN and the LSTM")
    horizon: int = knob(15, "steps of a rollout", least=1)
    discount: float = knob(0.985, "gamma", least=0, most=1)
    lambda_: float = knob(0.95, "lambda of the lambda-returns", least=0, most=1)
    entropy_weight: float = knob(0.001, "weight of the entropy bonus", least=0)
    value_weight: float = knob(1.0, "weight of the value loss", least=0)
    normalize_advantages: bool = knob(False, "advantages get mean 0 and deviation 1 in each minibatch")
    epochs: int = knob(1, "passes over each batch of rollouts (1: REINFORCE; more: PPO)", least=1)
    minibatches: int = knob(1, "parts of the batch, each of which makes a step of the optimizer", least=1)
    clip: float = knob(0.2, "PPO: no gain beyond this change of an action's probability, as a ratio", above=0)
    ema_decay: float = knob(
        0.0, "decay of the averaged weights that play the game; 0 plays the raw weights", least=0, most=0.99999
    )
    model_free_envs: int = knob(8, "real games played side by side when policy=model_free", least=1)
    optimization: Optimization = field(
        default_factory=lambda: Optimization(
            first_updates=5_000, weight_decay=0.0, warmup_updates=0, max_grad_norm=100.0
        )
    )


@dataclass
class Evaluation:
    """Full games with their real score, and a dream beside reality."""

    every_epochs: int = knob(10, "epochs from one evaluation to the next", least=1)
    first_look: int = knob(0, "denoiser updates after which a first dream is shown; 0: the first evaluation's", least=0)
    games: int = knob(4, "full games an evaluation", least=1)
    final_games: int = knob(100, "full games at the end of the run", least=1)
    dream_steps: int = knob(50, "steps of the imagined rollouts that are compared with real ones", least=1)
    dreams: int = knob(16, "imagined rollouts of each set, random play and the agent's", least=1)
    frechet: str = knob(
        "off",
        "Fréchet distance of dreams: never, at every n-th evaluation and the end, or at the end",
        choices=("off", "every_n", "final"),
    )
    frechet_every: int = knob(5, "evaluations from one Fréchet distance to the next (frechet=every_n)", least=1)
    frechet_frames: int = knob(2048, "imagined frames, and real ones to compare them with", least=2)
    frechet_denoising_steps: int = knob(0, "denoising steps of these dreams; 0: sampler.steps", least=0)
    frechet_inception: Optional[str] = knob(
        None, "a local file of Inception weights, for the FID of the literature too"
    )


@dataclass
class Checkpoint:
    """The run folder's memory. A save also happens at the end of the run and when it is asked to stop."""

    every_minutes: float = knob(10.0, "wall-clock minutes from one save to the next", above=0)
    keep: int = knob(2, "newest checkpoints that are kept", least=1)


@dataclass
class Config:
    """A whole run."""

    preset: str = knob("diamond", "the file of config/preset that this run started from")
    env: str = knob("Breakout", "the game's name as ale-py spells it: Breakout, MsPacman, ...")
    seed: int = knob(0, "one seed gives one run, bit for bit, on CPU", least=0, most=2**31 - 1)
    device: str = knob("auto", "auto, cpu, cuda, cuda:1, mps")
    precision: str = knob(
        "auto",
        "of convolutions and matrix products; auto: bfloat16 where the chip has it",
        choices=("auto", "float32", "bfloat16"),
    )
    compile: bool = knob(False, "the networks are compiled; on a CPU that takes longer than it saves")
    cuda_graphs: bool = knob(False, "an update is recorded once and then replayed as one launch (one CUDA GPU)")
    policy: str = knob(
        "imagined", "where the policy learns: in imagination or in the real game", choices=("imagined", "model_free")
    )
    runs: str = knob("runs", "folder that holds the run folders")
    resume: Optional[str] = knob(None, "a run folder to go on with")
    dataset: Optional[str] = knob(None, "a folder of stored episodes to train on, without collecting")
    initialize: dict[str, Any] = field(
        default_factory=lambda: {"from": None, "parts": list(PARTS)},
        metadata={"help": {"from": "a run folder, or a checkpoint, to take weights from", "parts": "which to take"}},
    )
    final_epochs: int = knob(50, "epochs after the last collection", least=0)
    age_weights: list[float] = knob(
        [0.1, 0.1, 0.1, 0.7], "share of the samples from each age group of episodes, oldest first", least=0
    )
    atari: Atari = field(default_factory=Atari)
    collection: Collection = field(default_factory=Collection)
    denoiser: Denoiser = field(default_factory=Denoiser)
    sampler: Sampler = field(default_factory=Sampler)
    reward_end: RewardEnd = field(default_factory=RewardEnd)
    actor_critic: ActorCritic = field(default_factory=ActorCritic)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
