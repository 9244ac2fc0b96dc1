"""The trainer: the recipe of a run."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

import torch

from adamas.config import Config
from adamas.config.help import shown
from adamas.data.replay import Replay
from adamas.data.storage import verify
from adamas.data_card.first_update import show_card
from adamas.envs.make import make_env
from adamas.envs.registered import where
from adamas.evaluation.evaluate import Evaluation, evaluate_world
from adamas.evaluation.games import play_games
from adamas.evaluation.tables import at_horizons, each_horizon
from adamas.training import checkpoint, media
from adamas.training.collector import Collector, Ended
from adamas.training.datasets import read_experience
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.load_run import chunks_of, read_state, read_to_resume
from adamas.training.models import training_models
from adamas.training.phases import COLLECT, EVALUATION, FINAL_EVALUATION, FIRST_DREAM, UPDATES, first_dream_after
from adamas.training.progress import Progress
from adamas.training.run_folder import RunFolder
from adamas.training.run_loop import RunLoop
from adamas.training.run_records import has_final_evaluation
from adamas.training.schedule import finished, replayed_updates, steps_to_collect, updates_of_epoch
from adamas.training.signals import Stopped
from adamas.training.updates import Updates
from adamas.training.workers import Workers
from adamas.utils.console import warn
from adamas.utils.device import is_out_of_memory
from adamas.utils.errors import UserError
from adamas.utils.logger import Logger
from adamas.utils.threads import SERIAL, Threads


class Trainer:
    """One run: its models, its experience, its random numbers, its counters."""

    def __init__(self, config: Config, folder: RunFolder, device: torch.device, threads: Threads = SERIAL) -> None:
        torch.manual_seed(config.seed)  # initial weights; all that is drawn later has its own generator
        self.config, self.folder, self.threads = config, folder, threads
        self.progress, self.logger = Progress(), Logger(folder.tensorboard)
        self.random = Generators.seeded(config.seed, device)
        self.env = make_env(config, episodic_life=True)
        if not config.resume and not config.dataset and not self.env.deterministic:
            warn(f"env={config.env} plays differently from the same seed and actions: a resume begins a new episode")
        self.models = training_models(config, self.env.action_meanings, device)
        self.learners, self.workers = Learners(self.models, threads), Workers()
        if config.dataset:
            self.replay = read_experience(config.dataset, config, device)
        else:
            self.replay = Replay(config.collection.steps, config.replay.age_weights, device=device)
        self.dataset_digest = self.replay.digest() if config.dataset else None
        self.updates = Updates(self.learners, self.replay, self.random, self.logger)
        self.collector = Collector(self.env, self.replay, config.seed)

    def run(self, loop: RunLoop) -> bool:
        """Trains until the plan is done (True) or the run is asked to stop (False). Saves in either case."""
        with loop:
            try:
                self.workers.begin(self.learners)
                self.train(loop)
            except Stopped:
                return False
            finally:
                self._close_env()
        return True

    def _close_env(self) -> None:
        """What it holds besides memory, such as windows and processes. A failure costs a line, and no run."""
        try:
            self.env.close()
        except Exception as error:  # of any package
            warn(f"env={self.config.env} cannot be closed: {type(error).__name__}: {' '.join(str(error).split())}")

    def train(self, loop: RunLoop) -> None:
        """The recipe."""
        while not finished(self.config, self.progress):
            self.collect(loop)
            if self.config.has_world_model:
                self.look_at_the_data(loop)
                self.show_first_dream(loop)
                self.fit("denoiser", loop)
                self.fit("reward_end", loop)
                self.fit(self.config.policy_part, loop)
            self.evaluate_if_due(loop)
            self.progress.next_epoch()
        self.evaluate_at_the_end(loop)
        loop.save()

    def collect(self, loop: RunLoop) -> None:
        loop.run(COLLECT, self._steps_this_epoch, self._collect_step)

    def look_at_the_data(self, loop: RunLoop) -> None:
        """Before the first update of the denoiser: what the data is worth, and the scale of what is diffused."""
        if self.progress.total["denoiser"] == 0 and self.progress.epoch == 0:
            self._show_data_card(loop)
        if self._measures_changes():
            self.workers.measure_changes(self.replay)
            self.updates.measure_changes()

    def show_first_dream(self, loop: RunLoop) -> None:
        """After some of the first epoch's updates of the denoiser."""
        if self.progress.epoch == 0:
            first = first_dream_after(self.config)
            loop.run(UPDATES["denoiser"], lambda: first, lambda: self._update("denoiser"))
            loop.run(FIRST_DREAM, lambda: min(first, 1), lambda: self._show_first_dream(loop))

    def fit(self, part: str, loop: RunLoop) -> None:
        loop.run(UPDATES[part], lambda: updates_of_epoch(self.config, self.progress, part), lambda: self._update(part))

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

    def _measures_changes(self) -> bool:
        """Whether the denoiser is about to make its first update. Weights of another run bring the scale of what they diffuse."""
        source, parts = self.config.initialize["from"], self.config.initialize["parts"]
        updates = updates_of_epoch(self.config, self.progress, "denoiser")
        return self.progress.total["denoiser"] == 0 and updates > 0 and not (source and "denoiser" in parts)

    def _steps_this_epoch(self) -> int:
        return steps_to_collect(self.config, self.progress, self.replay.reward_counts)

    def _collect_step(self) -> None:
        with self.models.autocast():
            self._log(self.collector.step(self.models.policy, self.random.act))
        for _ in range(replayed_updates(self.config, self.replay.num_steps)):
            self.updates.after_step()

    def _log(self, ended: Ended) -> None:
        if ended.episode is not None:
            self.logger.add("collect/episode_return", ended.episode)
        if ended.game is not None:
            self.logger.add("collect/game_return", ended.game)

    def _update(self, part: str) -> None:
        self.workers.update(part, self.replay)
        self.updates.make(part)

    def _evaluate(self, count: int, name: str, loop: RunLoop) -> None:
        c, epoch = self.config, self.progress.epoch
        with self.models.autocast():
            games = play_games(self.models.policy, c, count, self._seed(), each_step=loop.check_stop)
            dreams = self._evaluate_dreams(name, loop) if c.has_world_model else {}
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
            self.models.world, self.models.policy, self.config, self._seed(), loop.check_stop, self.threads
        )

    def _show_first_dream(self, loop: RunLoop) -> None:
        with self.models.autocast():
            evaluation = self._dream(loop)
        media.show_pictures(evaluation, self.logger, self.folder.dreams, "first", self.progress.epoch)
        loop.bars.say(f"the first dream is in {self.folder.dreams / 'first.gif'} and in TensorBoard")

    def _evaluate_dreams(self, name: str, loop: RunLoop) -> dict[str, Any]:
        evaluation = self._dream(loop)
        media.show(evaluation, self.logger, self.folder.dreams, self.progress.epoch)
        detail = {key: at_horizons(detail) for key, detail in evaluation.detail.items()}
        return {"detail": detail, "spread": each_horizon(evaluation.spread)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "game": self.config.env,
            "models": {**self.models.state_dict(), "optimizers": self.learners.state_dict()},
            "random": self.random.state_dict(),
            "imagined": self.updates.imagined.state_dict(),
            "player": self.collector.state_dict(),
            "replay": None if self.config.dataset else self.replay.save(self.folder.replay),
            "dataset": self.dataset_digest,
        }

    def resume(self) -> None:
        """Goes on from the newest good checkpoint of the run folder, exactly where it was."""
        state, path = read_to_resume(self.folder, verify=self._verify)
        try:
            self._restore(state, path)
            env = state["player"]["env"]
        except checkpoint.MISFITS as error:
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            why = "does not fit the sizes that this command asks for, or is of another version: drop such settings"
            raise UserError(f"{path} {why}") from error
        if not self.config.dataset:  # else nobody plays
            self._go_on(env)

    def _restore(self, state: dict[str, Any], path: Path) -> None:
        self.models.load_state_dict(state["models"])
        self.learners.load_state_dict(state["models"]["optimizers"])
        self.collector.load_state_dict(state["player"], self.models.device)
        self.random.load_state_dict(state["random"])
        self.updates.imagined.load_state_dict(state.get("imagined"), self.models.device)
        self.progress.load_state_dict(state["progress"])
        games, made = self.config.evaluation.final_games, self.progress.done[FINAL_EVALUATION.name]
        if made and not has_final_evaluation(self.folder, self.progress.epoch, games):
            # its line is damaged, or tells of fewer games than are wanted
            del self.progress.done[FINAL_EVALUATION.name]
        if self.config.dataset and state.get("dataset", self.dataset_digest) != self.dataset_digest:
            raise UserError(
                f"dataset={shown(self.config.dataset)} does not hold what that of the run held: give the same one"
            )
        if state["replay"]:
            self.replay.load(self.folder.replay, state["replay"])

    def _go_on(self, env: dict[str, Any]) -> None:
        """With the episode that was saved, which the env plays again."""
        name = self.config.env
        try:
            goes_on = self.collector.go_on(env)
        except UserError:
            raise
        except Exception as error:  # whatever the env itself raises
            raise UserError(
                f"env={name} fails where the episode that was saved is played again: {where(error)}"
            ) from error
        if not goes_on:
            warn(f"env={name} does not go on with the episode that was saved: a new one begins")

    def _verify(self, state: dict[str, Any]) -> None:
        for chunk in chunks_of(state):
            verify(self.folder.replay / chunk["name"], chunk["sha256"])

    def initialize(self, source: str, parts: list[str]) -> None:
        """Starts from the weights of another run: its folder, or one of its checkpoints."""
        self.models.initialize(read_state(Path(source))["models"], parts, source)
