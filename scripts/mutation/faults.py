"""The faults of the algorithm that `run.py` builds in, and the tests that are to notice each; patterns as in `apply.py`."""

from __future__ import annotations

from typing import NamedTuple

from apply import Becomes, Swap, drop


class Fault(NamedTuple):
    """What is wrong, where, and who should notice."""

    name: str
    module: str  # of adamas
    function: str
    edits: tuple[Swap | Becomes, ...]
    tests: tuple[str, ...]  # files of tests/, or tests in them; the quickest to notice first


def _faults(module: str, tests: str, *rows: tuple) -> tuple[Fault, ...]:
    """Rows of (function, name, *edits)."""
    return tuple(Fault(name, module, function, edits, tuple(tests.split())) for function, name, *edits in rows)


# fmt: off

DIFFUSION = (
    *_faults(
        "world_model.edm", "test_edm.py test_denoiser.py",
        ("draw_sigma", "one sigma for the whole batch", Swap("normal((A,), B)", "normal((1,), B).expand(A)")),
        ("draw_sigma", "sigma drawn from a normal, not a log-normal", Swap("A.exp()", "A.abs()")),
        ("draw_noise", "the shared offset noise never added", Swap("A * B + C * D", "A * B")),
        ("scalings", "the offset noise left out of the scalings", Swap("A ** 2 + B ** 2", "A ** 2")),
        ("scalings", "c_skip dropped", Swap("A ** 2 / B", "0 * A ** 2 / B")),
        ("denoising_loss", "the target without c_skip", Swap("(A - B * C) / D", "A / D")),
        ("denoising_loss", "all pixels weigh alike", Swap("A * B.square()", "B.square()")),
    ),
    *_faults(
        "world_model.samplers", "test_samplers.py",
        ("karras_schedule", "the schedule without its final zero", Swap("A + [0.0]", "A")),
        ("heun", "Heun's correction forgotten", Swap("A > 0", "A < 0")),
        ("churned_euler", "the network is shown sigma, not sigma_hat", Swap("denoise(A, B)", "denoise(A, sigma)")),
    ),
    *_faults(
        "world_model.denoiser", "test_denoiser.py test_samplers.py",
        ("_replace", "the real frame is fed back: the model never sees its own", Swap("torch.where(A, B, C)", "C")),
        ("_replace", "the generated frame replaces padding", Swap("torch.where(A, B, C)", "B")),
        ("Denoiser.valid_steps", "padding counts in the loss", Becomes("torch.ones_like(segment.valid[:, self.config.context - 1 :])")),
        ("Denoiser.frame_loss", "the frame fed back is the target, not decoded", Swap("self.decode(A, B)", "A")),
        ("Denoiser.frame_loss", "the measured sigma_data not used in training", Swap("self.sigma_data", "0.5", nth=0)),
        ("Denoiser.frame_loss", "a flash is a hundred frames", Swap("A.clamp_max(1)", "1")),
        ("robust_scale", "flashes set the scale of changes", Swap("A.minimum(B)", "A")),
        ("Denoiser.imagine", "a segment imagined from real frames", Swap("self.sample(X[A], ...)", "self.sample(segment.obs[A], ...)")),
        ("run_sampler", "the first noise scaled where it should not be", Swap("A == 'unit'", "A != 'unit'")),
        ("ConditionedUNet.forward", "the denoiser does not know the actions", Swap("self.condition(A + B)", "self.condition(A)")),
    ),
)

WORLD = (
    *_faults(
        "world_model.reward_end", "test_reward_end.py",
        ("RewardEnd.loss", "the reward of a step that diverges counts", Swap("A * ~B", "A")),
        ("RewardEnd.valid_steps", "a transition from padding counts", Becomes("segment.mask[:, 1:]")),
        ("RewardEnd.forward", "reward and end forget what came before", Swap("self.lstm(A, B)", "self.lstm(A, None)")),
    ),
    *_faults(
        "world_model.world_model", "test_world_model.py",
        ("WorldModel.step", "the context forgets the newest frame", Swap("torch.cat([A[:, 1:], B], dim=1)", "torch.cat([A[:, :-1], B], dim=1)")),
        ("WorldModel.step", "the context's actions one step late", Swap("Trajectory(A, B[:, 1:])", "Trajectory(A, B[:, :-1])")),
        ("WorldModel.step", "reward and end read the oldest frame", Swap("A[:, -1:]", "A[:, :1]")),
        ("WorldModel.step", "the reward of a step that diverges is given", Swap("A * (B != DIVERGED)", "A")),
        ("WorldModel.start", "the recurrent state not burnt in", Swap("WorldState(A, B)", "WorldState(A, tuple(0 * h for h in B))")),
    ),
    *_faults(
        "agent.imagination", "test_imagination.py test_world_model.py",
        ("imagine", "the reward of a step that also ends the episode is dropped", Swap("A.reward * B", "A.reward * (B & ~A.terminated)")),
        ("imagine", "the step into a diverged frame counts", Swap("A & ~B.diverged", "A")),
        ("imagine", "what comes after an end counts", Swap("A & ~B.terminated", "A")),
        ("imagine", "a rollout that diverged is not truncated", Swap("truncated.append(A & B.diverged)", "truncated.append(torch.zeros_like(A))")),
        ("imagine", "the policy's state not burnt in", Swap("_, _, H = policy(A, B)", "H = B")),
        ("imagine", "no value after the last step", Swap("torch.cat([A, B], dim=1)", "torch.cat([A, 0 * B], dim=1)")),
    ),
)

LEARNING = (
    *_faults(
        "agent.returns", "test_actor_critic.py",
        ("lambda_returns", "a truncated rollout goes on", Swap("torch.where(A, B, torch.lerp(B, C, D))", "torch.lerp(B, C, D)")),
        ("lambda_returns", "an ended rollout goes on", Swap("torch.where(A, 0.0, B)", "B")),
        ("lambda_returns", "lambda and its complement swapped", Swap("torch.lerp(A, B, C)", "torch.lerp(B, A, C)")),
    ),
    *_faults(
        "agent.ppo", "test_actor_critic.py",
        ("clipped_surrogate", "the better of the two surrogates", Swap("torch.minimum(A, B)", "torch.maximum(A, B)")),
        ("clipped_surrogate", "ratios not clipped", Swap("A.clamp(1 - B, 1 + B)", "A")),
        ("normalized", "advantages without rewards scaled up", Swap("A.clamp_min(LEAST_STD)", "A.clamp_min(1e-3)")),
    ),
    *_faults(
        "agent.actor_critic", "test_actor_critic.py",
        ("ActorCritic.loss", "the entropy bonus has the wrong sign", Swap("A - B.entropy_weight * C", "A + B.entropy_weight * C")),
        ("ActorCritic.loss", "the policy learns from steps not taken", Swap("masked_mean(clipped_surrogate(...), B)", "clipped_surrogate(...).mean()")),
        ("ActorCritic.loss", "gradients flow through the advantage", Swap("clipped_surrogate(A, B, advantage)", "clipped_surrogate(A, B, returns - values[:, :-1])")),
        ("ActorCritic.forward", "the stack of frames never moves on", Swap("A[None, :, T:]", "A[None, :, :-T]")),
    ),
    *_faults(
        "agent.q_learning", "test_q_learning.py",
        ("transitions", "an ended episode goes on", Swap("torch.where(ended, 0.0, A)", "A")),
        ("transitions", "rewards unclipped", Swap("A.sign() * B * C", "A * B * C")),
        ("transitions", "the value of always n steps later", Swap("powers[steps]", "powers[-1]")),
        ("transitions", "a step that ends an episode needs a frame after it", Swap("followed | terminated", "followed")),
    ),
    *_faults(
        "agent.imagined_replay", "test_q_learning.py",
        ("ImaginedSteps.segments", "an imagined step that was not taken counts", Swap("A & (index < length)", "A & (index <= length)")),
        ("ImaginedReplay.add", "old imagined rollouts are never forgotten", Swap("max(0, A)", "0")),
        ("ImaginedReplay.state_dict", "a checkpoint lacks the imagined rollouts", Swap("list(self._steps)", "None")),
    ),
    *_faults(
        "agent.q_network", "test_q_learning.py",
        ("QNetwork.loss", "the best action learns, whatever was done", Swap("q.gather(-1, A)", "q.amax(-1, keepdim=True)")),
        ("QNetwork.forward", "never a random action", Swap("(1 - EPSILON) * A / B + EPSILON / C", "A / B + 1e-9")),
        ("QNetwork.seen", "frames alone are read", Swap("with_changes(A, FRAME_STACK)[:, 0]", "A")),
        ("QNetwork.loss", "the brightness of the newest frame alone changes", Swap("self.seen(A).mul_(B)", "self.seen(A)")),
    ),
    *_faults(
        "training.updates", "test_q_learning.py",
        ("Updates._learn_values", "the target network stands still", Swap("self.models.update_average(A)", "None")),
        ("Updates._learn_values", "imagined steps are never drawn", Swap("self.imagined.sample_steps(A, B, C)", "segments[0]")),
    ),
    *_faults(
        "training.learner", "test_learner.py test_updates.py test_busy.py",
        ("Learner._sums", "micro-batches weigh alike, however many steps they hold", Swap("A * (B / C)", "A")),
        ("Learner._sums", "the loss of a micro-batch logged as if it were all", Swap("A.detach() * B", "A.detach()")),
        ("Learner.backward", "the gradient of one thread's rows alone", Swap("reduce(_added, sums)", "sums[0]")),
    ),
    *_faults(
        "training.shares", "test_busy.py",
        ("in_shares", "the last rows are nobody's", Swap("rows * i // count", "rows // count * i")),
    ),
    *_faults(
        "utils.random", "test_busy.py",
        ("split", "all threads draw the same numbers", Swap("A.manual_seed(seed)", "A.manual_seed(seeds[0])")),
    ),
    *_faults(
        "training.optimizer", "test_optimizer.py test_learner.py test_updates.py",
        ("Optimizer.step", "gradients clipped after the step",
         Swap("nn.utils.clip_grad_norm_(A, B)", "nn.utils.clip_grad_norm_(A, float('inf'))"),
         Swap("self.adamw.step()", "(self.adamw.step(), nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm))")),
        ("Optimizer.step", "an update that is not finite is made", drop("A['found_inf'] = B")),
        ("Optimizer.learning_rate", "the learning rate does not fall", Swap("(1 - DECAY_TO) * A", "0 * A")),
        ("Optimizer.load_state_dict", "the schedule begins anew at a resume", drop("self.steps = A")),
    ),
    *_faults(
        "training.updates", "test_updates.py",
        ("Updates.denoiser", "generated frames are shown from the first update on", Swap("A >= B.autoregressive_after", "True")),
        ("Updates.denoiser", "the averaged weights stay what they were", drop("self.models.update_average('denoiser')")),
        ("Updates.reward_end", "reward and end never learn from imagined frames", Swap("int(A) > int(B)", "False")),
        ("until_diverged", "a segment goes on after it diverged", Swap("A[:, :-2] == 0", "A[:, :-2] >= 0")),
    ),
    *_faults(
        "training.models", "test_models.py test_updates.py",
        ("Models._best", "imagination and play use the raw weights", Swap("A if B else C", "C")),
        ("Models.load_state_dict", "a resume leaves the averages as they are", drop("average.load_state_dict(A)")),
    ),
    *_faults(
        "training.distributed", "test_distributed.py",
        ("sum_gradients", "several processes: gradients not summed", Swap("all_sum(A)", "A")),
        ("sum_gradients", "several processes: gradients too small by their number", Swap("A.copy_(B)", "A.copy_(B / world_size())")),
    ),
)

EXPERIENCE = (
    *_faults(
        "data.replay", "test_replay.py test_data_path.py",
        ("Replay.add", "the final frame of a truncated episode is not stored", Swap("terminated or truncated", "terminated")),
        ("Replay.extend", "ends are no events", Swap("A | B['terminated']", "A")),
        ("Replay.sample", "what an event led to stands one place late", Swap("torch.cat([A - 1, B])", "torch.cat([A, B])")),
    ),
    *_faults(
        "data.sampling", "test_replay.py",
        ("by_age", "the first row of an episode alone", Swap("starts[A] + B", "starts[A]")),
        ("by_age", "the newest episodes left out", Swap("np.where(A, B, C)", "np.full_like(B, C)")),
    ),
    *_faults(
        "data.batch", "test_replay.py test_data_path.py",
        ("cut_segments", "padding passes for frames", Swap("A == B", "A == A")),
        ("cut_segments", "a segment goes on into the next episode", Swap("A.clip(B, C)", "A.clip(0, len(columns['obs']) - 1)")),
        ("Segment.valid", "a transition from padding is real", Swap("A & B", "B")),
    ),
    *_faults(
        "data.motion", "test_motion.py",
        ("_small_movers", "bytes wrap around where something gets darker", Swap("A.maximum(B) - A.minimum(B)", "B - A")),
        ("direction_changed", "a fast ball turns at each step", Swap("A - 2 * B + C", "A - B")),
    ),
    *_faults(
        "training.collector", "test_collector.py",
        ("Collector.step", "the frame after the action stored for the one before", Swap("self.replay.add(self.obs, ...)", "self.replay.add(obs, ...)")),
        ("Collector._end", "past frames not forgotten at a new episode",
         Swap("self.hidden = None", "self.hidden = self.hidden._replace(h=0 * self.hidden.h, c=0 * self.hidden.c)")),
        ("Collector._end", "forgets at game over but not at a lost life", Swap("self.hidden = None", "self.hidden = None if game_over else self.hidden")),
        ("Collector._end", "the return of a game is that of its last life", Swap("0.0 if game_over else A", "0.0")),
        ("Collector.state_dict", "saved without the recurrent state", Swap("None if A is None else list(A)", "None")),
    ),
    *_faults(
        "training.schedule", "test_phases.py",
        ("epochs_left", "the time left forgets the epoch of now", Swap("1 + A", "A")),
    ),
)

MEASURES = (
    *_faults(
        "evaluation.detail", "test_detail.py",
        ("small_objects", "recall and precision swapped", Swap("(A / B, C / D, B)", "(C / D, A / B, B)")),
        ("_count_objects_at", "an object counts only if all of it is right", Swap("2 * A >= B", "A >= B")),
    ),
    *_faults(
        "evaluation.games", "test_evaluation.py",
        ("_play", "returns go on after the end of a game", Swap("A[P] += B[P]", "A += B")),
    ),
    *_faults(
        "data.frames", "test_frames.py",
        ("to_uint8", "truncation instead of rounding", Swap("A.round()", "A")),
    ),
    *_faults(
        "utils.random", "test_random.py test_evaluation.py",
        ("_draw", "one generator's draws for every sample", Swap("[one(A, E) for E in generator]", "[one(A, generator[0]) for E in generator]")),
    ),
    *_faults(
        "training.checkpoint", "test_checkpoint.py",
        ("load", "a damaged checkpoint is read", Swap("A != B", "False", nth=0)),
    ),
    *_faults(
        "training.trainer", "test_trainer.py",
        ("Trainer._restore", "a resume draws other random numbers", drop("self.random.load_state_dict(A)")),
        ("Trainer._restore", "a resume begins with new optimizers", drop("self.learners.load_state_dict(A)")),
    ),
)

# fmt: on

FAULTS = (*DIFFUSION, *WORLD, *LEARNING, *EXPERIENCE, *MEASURES)
