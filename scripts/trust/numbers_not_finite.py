"""Numbers that are not finite: in a gradient, in a dataset and in a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from common import SMALL, Row, adamas, ending, same, train

NAN = float("nan")
PROMISE = "a NaN is told of, skipped or refused, never trained on"


def numbers(folder: Path) -> list[Row]:
    run = train("checkpoint.every_minutes=0.05", cwd=folder / "numbers")
    return [*in_a_gradient(run), in_a_dataset(run, folder), *in_a_checkpoint(run, folder)]


def in_a_gradient(run: Path) -> list[Row]:
    from adamas.config import Config
    from adamas.config.files import load_config
    from adamas.training.run_folder import RunFolder
    from adamas.training.trainer import Trainer

    trainer = Trainer(load_config(run / "config.yaml"), RunFolder(run), torch.device("cpu"))
    trainer.resume()
    rows = []
    for part in Config().parts:
        module = getattr(trainer.models, part)
        weight = next(p for p in module.parameters() if p.requires_grad)
        before = {k: v.clone() for k, v in module.state_dict().items()}
        hook = weight.register_hook(lambda gradient: gradient * NAN)
        trainer.updates.make(part)
        hook.remove()
        unchanged = same({**module.state_dict()}, before)
        trainer.updates.make(part)
        moved = not same({**module.state_dict()}, before)
        skipped = int(trainer.learners.by_part[part].optimizer.skipped)
        good = unchanged and moved and skipped >= 1
        found = f"{skipped} {'step' if skipped == 1 else 'steps'} of the update skipped and counted, weights {'as before' if unchanged else 'CHANGED'}, the next one moves them"
        rows.append(Row(PROMISE, f"in a gradient of {part}", found, good))
    return rows


def in_a_dataset(run: Path, folder: Path) -> Row:
    rows = dict(np.load(next((run / "replay").glob("rows-*.npz"))))
    rows["reward"][3] = NAN
    np.savez(folder / "nan.npz", **rows)
    done = adamas("train", "env=Breakout", *SMALL, f"dataset={folder / 'nan.npz'}", cwd=folder)
    return Row(PROMISE, "in a reward of a dataset (frames are bytes)", last_line(done.err, folder), done.is_one_line)


def in_a_checkpoint(run: Path, folder: Path) -> list[Row]:
    """With a digest that is right: whoever wrote it had the NaN in memory."""
    from adamas.training import checkpoint

    expected, victim = ending(run), folder / "nan-run"
    shutil.copytree(run, victim, dirs_exist_ok=True)
    newest, *older = checkpoint.newest_first(victim / "checkpoints")
    parts = checkpoint.load(newest)
    next(iter(parts["models"]["denoiser"].values())).view(-1)[0] = NAN
    newest.unlink()
    check, checkpoint.not_finite = checkpoint.not_finite, lambda node: ""
    bad = checkpoint.save(victim / "checkpoints", checkpoint.step_of(newest), parts, keep=2)
    checkpoint.not_finite = check
    started = adamas("train", "env=Breakout", *SMALL, f"initialize.from={bad}", cwd=folder)
    resumed = adamas("train", f"resume={victim}", cwd=folder)
    good = resumed.code == 0 and "cannot be used" in resumed.err and same(ending(victim), expected)
    found = "told of, the one before it is used, same ending" if good else resumed.err[-300:]
    return [
        Row(PROMISE, "in a checkpoint that is started from", last_line(started.err, folder), started.is_one_line),
        Row(PROMISE, f"in the newest of {1 + len(older)} checkpoints of a resumed run", found, good),
    ]


def last_line(text: str, folder: Path) -> str:
    return (text.strip().splitlines() or [""])[-1].replace(str(folder), "DIR")
