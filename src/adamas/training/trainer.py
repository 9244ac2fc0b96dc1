"""The trainer: the recipe of a run."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

import torch

from adamas.config import Config
from adamas.config.schema import MODEL_FREE_ENVS
from adamas.data.datasets import read_experience
from adamas.data.replay import Replay
from adamas.data.storage import verify
from adamas.data_card.first_update import show_card
from adamas.envs.atari import AtariEnv
from adamas.evaluation.evaluate import Evaluation, evaluate_world
from adamas.evaluation.games import play_games
from adamas.evaluation.tables import at_horizons
from adamas.training import checkpoint, media
from adamas.training.collector import Collector
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.load_run import chunks_of, files_of_run, read_state, read_to_resume
from adamas.training.models import training_models
from adamas.training.phases import COLLECT, EVALUATION, FINAL_EVALUATION, FIRST_DREAM, PLAY, UPDATES, first_dream_after
from adamas.training.progress import Progress
from adamas.training.real_rollouts import RealRollouts
from adamas.training.run_folder import RunFolder
from adamas.training.run_loop import RunLoop
from adamas.training.run_records import has_final_evaluation
from adamas.training.signals import Stopped
from adamas.training.updates import Updates
from adamas.training.work_sizes import DREAMING, GAMES
from adamas.training.workers import Workers
from adamas.utils.errors import UserError
from adamas.utils.logger import Logger

RARE_REWARDS = 10  # of the rarer signs (of -, 0 and +) that the first collection waits for


class Trainer:
    """One run: its models, its experience, its random numbers, its counters."""

    def __init__(self, config: Config, folder: RunFolder, device: torch.device) -> None:
        torch.manual_seed(config.seed)  # initial weights; all that is drawn later has its own generator
        self.config, self.folder = config, folder
        self.progress, self.logger = Progress(), Logger(folder.tensorboard)
        self.random = Generators.seeded(config.seed, device)
        count = MODEL_FREE_ENVS if config.policy == "model_free" else 1
        envs = [AtariEnv(config.env, config.atari, episodic_life=True) for _ in range(count)]
        self.models = training_models(config, envs[0].action_meanings, device)
        self.learners, self.workers = Learners(self.models), Workers()
        if config.dataset:
            self.replay = read_experience(config.dataset, config, device, files_of_run(Path(config.dataset)))
        else:
            kept = config.collection.steps if config.policy == "imagined" else 0
            self.replay = Replay(kept, config.replay.age_weights, device=device)
        self.dataset_digest = self.replay.digest() if config.dataset else None
        self.updates = Updates(self.learners, self.replay, self.random, self.logger)
        self.player: Any  # a Collector, or RealRollouts for policy=model_free
        if config.policy == "model_free":
            self.player = RealRollouts(envs, self.models.actor_critic, config.seed)
        else:
            self.player = Collector(envs[0], self.replay, config.seed)

    def run(self, loop: RunLoop) -> bool:
        """Trains until the plan is done (True) or the run is asked to stop (False). Saves in either case."""
        with loop:
            try:
                self.workers.begin(self.learners)
                self.train(loop)
            except Stopped:
                return False
        return True

    def train(self, loop: RunLoop) -> None:
        """The recipe."""
        while not self.finished():
            if self.config.policy == "model_free":
                self.learn_in_the_game(loop)
            else:
                self.collect(loop)
                self.fit("denoiser", loop)
                self.fit("reward_end", loop)
                self.fit("actor_critic", loop)
            self.evaluate_if_due(loop)
            self.progress.next_epoch()
        self.evaluate_at_the_end(loop)
        loop.save()

    def finished(self) -> bool:
        final = 0 if self.config.policy == "model_free" else self.config.final_epochs
        return self.progress.epoch > 0 and self.steps_left() == 0 and self.progress.final_epochs >= final

    def steps_left(self) -> int:
        """Agent steps that the run has yet to make in the real game."""
        return 0 if self.config.dataset else max(0, self.config.collection.steps - self.progress.steps)

    def collect(self, loop: RunLoop) -> None:
        loop.run(COLLECT, self._steps_this_epoch, self._collect_step)

    def fit(self, part: str, loop: RunLoop) -> None:
        if part == "denoiser" and self.progress.epoch == 0 and self.progress.total[part] == 0:
            self._show_data_card(loop)
        optimization = getattr(self.config, part).optimization
        updates = optimization.first_updates if self.progress.epoch == 0 else optimization.updates
        if part == "denoiser" and updates and self.progress.total[part] == 0 and not self._initialized(part):
            self.workers.measure_changes(self.replay)
            self.updates.measure_changes()
        if part == "denoiser" and self.progress.epoch == 0:
            first = first_dream_after(self.config)
            loop.run(UPDATES[part], lambda: first, lambda: self._update(part))
            loop.run(FIRST_DREAM, lambda: min(first, 1), lambda: self._show_first_dream(loop))
        loop.run(UPDATES[part], lambda: updates, lambda: self._update(part))

    def learn_in_the_game(self, loop: RunLoop) -> None:
        loop.run(PLAY, self._steps_to_play, self._learn_from_real_rollouts)

    def evaluate_if_due(self, loop: RunLoop) -> None:
        if self.progress.epoch % self.config.evaluation.every_epochs == 0:
            games = self.config.evaluation.games
            loop.run(EVALUATION, lambda: 1, lambda: self._evaluate(games, "evaluation", loop))

    def evaluate_at_the_end(self, loop: RunLoop) -> None:
        games = self.config.evaluation.final_games
        loop.run(FINAL_EVALUATION, lambda: 1, lambda: self._evaluate(games, "final_evaluation", loop))

    def _show_data_card(self, loop: RunLoop) -> None:
        """What the experience is worth, before the first update."""
        findings = show_card(self.replay, self.config, self.models.action_meanings, self.folder.data_card, self.logger)
        said = f": {'; '.join(findings)}" if findings else ""
        loop.bars.say(f"the data card is in {self.folder.data_card} and in TensorBoard, {len(findings)} findings{said}")

    def _initialized(self, part: str) -> bool:
        """Whether its weights come from another run, and with them the scale of what it diffuses."""
        return bool(self.config.initialize["from"]) and part in self.config.initialize["parts"]

    def _steps_this_epoch(self) -> int:
        """Agent steps of this epoch: in the first one as many as it takes to see some rewards, within bounds."""
        c, done = self.config.collection, self.progress.done[COLLECT.name]
        if self.progress.epoch > 0:
            wanted = c.steps_per_epoch
        elif done < c.first_steps or sum(sorted(self.replay.reward_counts.values())[:-1]) >= RARE_REWARDS:
            wanted = c.first_steps
        else:
            wanted = c.first_steps_most
        return min(wanted, done + self.steps_left())

    def _steps_to_play(self) -> int:
        """Agent steps of this epoch in the game itself. A rollout too long in one epoch is made up for in the next."""
        c, done = self.config.collection, self.progress.done[PLAY.name]
        end = min(c.steps, c.first_steps + self.progress.epoch * c.steps_per_epoch)
        return end - (self.progress.steps - done)

    def _collect_step(self) -> None:
        with self.models.autocast():
            ended = self.player.step(self.models.policy, self.random.act)
        if ended.episode is not None:
            self.logger.add("collect/episode_return", ended.episode)
        if ended.game is not None:
            self.logger.add("collect/game_return", ended.game)

    def _update(self, part: str) -> None:
        self.workers.update(part, self.replay)
        self.updates.make(part)

    def _learn_from_real_rollouts(self) -> int:
        with self.models.autocast():
            rollout, returns = self.player.play(
                self.models.actor_critic, self.config.actor_critic.horizon, self.random.act
            )
        self.updates.policy(rollout)
        for game_return in returns:
            self.logger.add("collect/game_return", game_return)
        return int(rollout.mask.sum())

    def _evaluate(self, count: int, name: str, loop: RunLoop) -> None:
        c, epoch = self.config, self.progress.epoch
        with self.models.autocast():
            loop.threads.use(GAMES)
            games = play_games(self.models.policy, c.env, count, c.atari, self._seed(), each_step=loop.check_stop)
            dreams = self._evaluate_dreams(name, loop) if c.policy == "imagined" else {}
        score, steps = mean(games.returns), self.progress.steps
        self.logger.scalar(f"{name}/return", score, epoch)
        self.logger.scalar(f"{name}/length", mean(games.lengths), epoch)
        self.logger.scalar(f"{name}/steps_collected", steps, epoch)
        record = {
            "kind": name,
            "epoch": epoch,
            "final_epochs": self.progress.final_epochs,
            "steps": steps,
            "seconds": round(loop.seconds()),
            "return": score,
        }
        self.folder.append_evaluation({**record, **games._asdict(), **dreams})
        loop.bars.say(f"epoch {epoch}: mean return {score:.2f} over {count} full games")

    def _seed(self) -> int:
        """The seed of an evaluation in this epoch."""
        return (self.config.seed * 1_000_003 + self.progress.epoch + 1) % 2**31

    def _dream(self, loop: RunLoop) -> Evaluation:
        return evaluate_world(
            self.models.world, self.models.policy, self.config, self._seed(), each_step=loop.check_stop
        )

    def _show_first_dream(self, loop: RunLoop) -> None:
        with self.models.autocast():
            evaluation = self._dream(loop)
        media.show_pictures(evaluation, self.logger, self.folder.dreams, "first", self.progress.epoch)
        loop.bars.say(f"the first dream is in {self.folder.dreams / 'first.gif'} and in TensorBoard")

    def _evaluate_dreams(self, name: str, loop: RunLoop) -> dict[str, Any]:
        loop.threads.use(DREAMING)
        evaluation = self._dream(loop)
        media.show(evaluation, self.logger, self.folder.dreams, self.progress.epoch)
        detail = {key: at_horizons(detail) for key, detail in evaluation.detail.items()}
        return {"detail": detail}

    def state_dict(self) -> dict[str, Any]:
        return {
            "game": self.config.env,
            "models": {**self.models.state_dict(), "optimizers": self.learners.state_dict()},
            "random": self.random.state_dict(),
            "player": self.player.state_dict(),
            "replay": None if self.config.dataset else self.replay.save(self.folder.replay),
            "dataset": self.dataset_digest,
        }

    def resume(self) -> None:
        """Goes on from the newest good checkpoint of the run folder, exactly where it was."""
        state, path = read_to_resume(self.folder, verify=self._verify)
        try:
            self._restore(state, path)
        except checkpoint.MISFITS as error:
            why = "does not fit the sizes that this command asks for, or is of another version: drop such settings"
            raise UserError(f"{path} {why}") from error

    def _restore(self, state: dict[str, Any], path: Path) -> None:
        if "optimizers" not in state["models"]:
            raise UserError(
                f"{path} was exported, without what training needs: start a new run with initialize.from={self.folder.path}"
            )
        self.models.load_state_dict(state["models"])
        self.learners.load_state_dict(state["models"]["optimizers"])
        self.player.load_state_dict(state["player"], self.models.device)
        self.random.load_state_dict(state["random"])
        self.progress.load_state_dict(state["progress"])
        if self.progress.done[FINAL_EVALUATION.name] and not has_final_evaluation(self.folder, self.progress.epoch):
            del self.progress.done[FINAL_EVALUATION.name]  # its line is damaged: without it no run counts as finished
        if self.config.dataset and state.get("dataset", self.dataset_digest) != self.dataset_digest:
            raise UserError(f"dataset={self.config.dataset} does not hold what that of the run held: give the same one")
        if state["replay"]:
            self.replay.load(self.folder.replay, state["replay"])

    def _verify(self, state: dict[str, Any]) -> None:
        for chunk in chunks_of(state):
            verify(self.folder.replay / chunk["name"], chunk["sha256"])

    def initialize(self, source: str, parts: list[str]) -> None:
        """Starts from the weights of another run: its folder, or one of its checkpoints."""
        self.models.initialize(read_state(Path(source))["models"], parts, source)
