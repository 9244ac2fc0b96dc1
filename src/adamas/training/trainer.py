"""The trainer: the recipe of a run."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

import torch

from adamas import checkpoint
from adamas.config import Config, UserError
from adamas.envs.atari import AtariEnv
from adamas.evaluation.distances import frechet_is_due, frechet_ticks, measure_frechet
from adamas.evaluation.evaluate import Evaluation, evaluate_world
from adamas.evaluation.games import play_games
from adamas.evaluation.tables import at_horizons, plain
from adamas.logger import Logger
from adamas.replay import Replay
from adamas.training import gallery
from adamas.training.collector import Collector
from adamas.training.experience import read_experience
from adamas.training.fit import UPDATES, Generators, measure_changes, update_policy
from adamas.training.followers import Followers
from adamas.training.models import Models
from adamas.training.progress import Progress
from adamas.training.rollouts import RealRollouts
from adamas.training.run_folder import RunFolder
from adamas.training.session import Session
from adamas.training.stopping import Stopped


class Trainer:
    """One run: its models, its experience, its random numbers, its counters."""

    def __init__(self, config: Config, folder: RunFolder, device: torch.device) -> None:
        torch.manual_seed(config.seed)  # initial weights; all that is drawn later has its own generator
        self.config, self.folder = config, folder
        self.progress, self.logger = Progress(), Logger(folder.tensorboard)
        self.random = Generators.seeded(config.seed, device)
        count = config.actor_critic.model_free_envs if config.policy == "model_free" else 1
        envs = [AtariEnv(config.env, config.atari, episodic_life=True) for _ in range(count)]
        self.models = Models(config, envs[0].action_meanings, device)
        self.policy = self.models.agent
        self.followers = Followers()
        if config.dataset:
            self.replay = read_experience(config.dataset, config, device)
        else:
            kept = config.collection.steps if config.policy == "imagined" else 0
            self.replay = Replay(kept, config.age_weights, device=device)
        if config.policy == "model_free":
            self.player = RealRollouts(envs, self.models.actor_critic, config.seed)
        else:
            self.player = Collector(envs[0], self.replay, config.seed)

    def run(self, session: Session) -> bool:
        """Trains until the plan is done (True) or the session is asked to stop (False). Saves in either case."""
        with session:
            try:
                self.followers.begin(self.models, self.random)
                self.train(session)
            except Stopped:
                return False
        return True

    def train(self, session: Session) -> None:
        """The recipe."""
        while not self.finished():
            if self.config.policy == "model_free":
                self.learn_in_the_game(session)
            else:
                self.collect(session)
                self.fit("denoiser", session)
                self.fit("reward_end", session)
                self.fit("actor_critic", session)
            self.evaluate_if_due(session)
            self.progress.next_epoch()
        self.evaluate_at_the_end(session)
        session.save()

    def finished(self) -> bool:
        final = 0 if self.config.policy == "model_free" else self.config.final_epochs
        return self.progress.epoch > 0 and self.steps_left() == 0 and self.progress.final_epochs >= final

    def steps_left(self) -> int:
        """Agent steps that the run has yet to make in the real game."""
        return 0 if self.config.dataset else max(0, self.config.collection.steps - self.progress.steps)

    def collect(self, session: Session) -> None:
        session.loop("collect", self._steps_this_epoch, self._collect_step)

    def fit(self, part: str, session: Session) -> None:
        optimization = getattr(self.config, part).optimization
        updates = optimization.first_updates if self.progress.epoch == 0 else optimization.updates
        if part == "denoiser" and updates and self.progress.total[part] == 0:
            measure_changes(self.models, self.replay)
        if part == "denoiser" and self.progress.epoch == 0:
            look = min(self.config.evaluation.first_look, updates)
            session.loop(part, lambda: look, lambda: self._update(part))
            session.loop("first look", lambda: min(look, 1), lambda: self._show_first_dream(session))
        session.loop(part, lambda: updates, lambda: self._update(part))

    def learn_in_the_game(self, session: Session) -> None:
        session.loop("play", self._steps_to_play, self._learn_from_real_rollouts)

    def evaluate_if_due(self, session: Session) -> None:
        if self.progress.epoch % self.config.evaluation.every_epochs == 0:
            games = self.config.evaluation.games
            session.loop("evaluation", lambda: 1, lambda: self._evaluate(games, "evaluation", session))

    def evaluate_at_the_end(self, session: Session) -> None:
        games = self.config.evaluation.final_games
        session.loop("final evaluation", lambda: 1, lambda: self._evaluate(games, "final_evaluation", session))

    def _steps_this_epoch(self) -> int:
        """Agent steps of this epoch: in the first one as many as it takes to see some rewards, within bounds."""
        c, done = self.config.collection, self.progress.done["collect"]
        if self.progress.epoch > 0:
            wanted = c.steps_per_epoch
        elif done < c.first_steps or sum(sorted(self.replay.reward_counts.values())[:-1]) >= c.rare_rewards:
            wanted = c.first_steps
        else:
            wanted = c.first_steps_most
        return min(wanted, done + self.steps_left())

    def _steps_to_play(self) -> int:
        """Agent steps of this epoch in the game itself. A rollout too long in one epoch is made up for in the next."""
        c, done = self.config.collection, self.progress.done["play"]
        end = min(c.steps, c.first_steps + self.progress.epoch * c.steps_per_epoch)
        return end - (self.progress.steps - done)

    def _collect_step(self) -> None:
        with self.models.autocast():
            ended = self.player.step(self.policy, self.config.collection.epsilon, self.random.act)
        if ended.episode is not None:
            self.logger.add("collect/episode_return", ended.episode)
        if ended.game is not None:
            self.logger.add("collect/game_return", ended.game)

    def _update(self, part: str) -> None:
        self.followers.update(part, self.replay)
        UPDATES[part](self.models, self.replay, self.random, self.logger)

    def _learn_from_real_rollouts(self) -> int:
        with self.models.autocast():
            rollout, returns = self.player.play(
                self.models.actor_critic, self.config.actor_critic.horizon, self.random.act
            )
        update_policy(self.models, rollout, self.random, self.logger)
        for game_return in returns:
            self.logger.add("collect/game_return", game_return)
        return int(rollout.mask.sum())

    def _evaluate(self, count: int, name: str, session: Session) -> None:
        c, epoch = self.config, self.progress.epoch
        with self.models.autocast():
            session.threads.use("games")
            games = play_games(self.policy, c.env, count, c.atari, self._seed(), each_step=session.heed)
            dreams = self._evaluate_dreams(name, session) if c.policy == "imagined" else {}
        score, steps = mean(games.returns), self.progress.steps
        self.logger.scalar(f"{name}/return", score, epoch)
        self.logger.scalar(f"{name}/length", mean(games.lengths), epoch)
        self.logger.scalar(f"{name}/steps_collected", steps, epoch)
        record = {"kind": name, "epoch": epoch, "steps": steps, "seconds": round(session.seconds()), "return": score}
        self.folder.append_evaluation({**record, **games._asdict(), **dreams})
        session.bars.say(f"epoch {epoch}: mean return {score:.2f} over {count} full games")

    def _seed(self) -> int:
        """Of an evaluation in this epoch."""
        return (self.config.seed * 1_000_003 + self.progress.epoch + 1) % 2**31

    def _dream(self, session: Session) -> Evaluation:
        return evaluate_world(self.models.world, self.policy, self.config, self._seed(), each_step=session.heed)

    def _show_first_dream(self, session: Session) -> None:
        with self.models.autocast():
            evaluation = self._dream(session)
        gallery.show_pictures(evaluation, self.logger, self.folder.dreams, "first", self.progress.epoch)
        session.bars.say(f"the first dream is in {self.folder.dreams / 'first.gif'} and in TensorBoard")

    def _evaluate_dreams(self, name: str, session: Session) -> dict[str, Any]:
        session.threads.use("first look")
        evaluation = self._dream(session)
        gallery.show(evaluation, self.logger, self.folder.dreams, self.progress.epoch)
        detail = {key: at_horizons(detail) for key, detail in evaluation.detail.items()}
        if frechet_is_due(self.config, self.progress.epoch, final=name == "final_evaluation"):
            return {"detail": detail, "frechet": self._measure_frechet(session)}
        return {"detail": detail}

    def _measure_frechet(self, session: Session) -> list[dict[str, Any]]:
        with session.bars.phase("Fréchet distance", frechet_ticks(self.config), 0) as bar:

            def each_step() -> None:
                bar.update()
                session.heed()

            distances = measure_frechet(self.models.world, self.config, self.folder.frechet, each_step)
        for distance in distances:
            self.logger.scalar(f"frechet/{distance.encoder}_ratio", distance.ratio, self.progress.epoch)
        return [plain(distance) for distance in distances]

    def state_dict(self) -> dict[str, Any]:
        return {
            "game": self.config.env,
            "models": self.models.state_dict(),
            "random": self.random.state_dict(),
            "player": self.player.state_dict(),
            "replay": None if self.config.dataset else self.replay.save(self.folder.replay),
        }

    def resume(self) -> None:
        """Goes on from the newest good checkpoint of the run folder, exactly where it was."""
        state, path = checkpoint.load_newest(self.folder.checkpoints, warn=print, verify=self._verify)
        if "optimizers" not in state["models"]:
            raise UserError(
                f"{path} was exported, without what training needs: start a new run with initialize.from={self.folder.path}"
            )
        try:
            self.models.load_state_dict(state["models"])
            self.player.load_state_dict(state["player"], self.models.device)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{path} does not fit the sizes that this command asks for: drop such knobs") from error
        self.random.load_state_dict(state["random"])
        self.progress.load_state_dict(state["progress"])
        if state["replay"]:
            self.replay.load(self.folder.replay, state["replay"])

    def _verify(self, state: dict[str, Any]) -> None:
        if state["replay"]:
            self.replay.verify(self.folder.replay, state["replay"])

    def initialize(self, source: str, parts: list[str]) -> None:
        """Starts from the weights of another run: its folder, or one of its checkpoints."""
        path = Path(source)
        if path.is_file():
            state = checkpoint.load(path)
        else:
            state, _ = checkpoint.load_newest(RunFolder(path).checkpoints, warn=print)
        self.models.initialize(state["models"], parts, source)
