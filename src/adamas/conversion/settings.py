"""The settings of `adamas data import` and `adamas data export`."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from adamas.config.schema import setting

KINDS = ("npz", "minari", "videos", "pictures")


@dataclass
class ImportOptions:
    """What is read, and what settles how it is meant where the files do not tell."""

    source: str = setting(MISSING, "a file or a folder, or the id of a Minari dataset on this machine")
    out: str = setting(MISSING, "the dataset: a folder that is not there yet")
    kind: str = setting("auto", "what the source is", choices=("auto", *KINDS))
    columns: list[str] = setting([], "names of arrays that are called otherwise: [obs:img,action:a]")
    layout: str = setting(
        "auto",
        "axes of a frame: height, width, colours; S: stacked frames, newest last",
        choices=("auto", "HW", "HWC", "CHW", "HWS", "SHW"),
    )
    values: str = setting("auto", "black and white of a frame", choices=("auto", "0..255", "0..1", "-1..1"))
    done: str = setting(
        "auto",
        "done[t] is of the step from frame t to the next, or marks frame t as the last one of its episode",
        choices=("auto", "transition", "last_frame"),
    )
    actions: str = setting(
        "after", "action[t] was done after frame t, or before it and led to it", choices=("after", "before")
    )
    rewards: str = setting(
        "auto",
        "reward[t] was brought by what was done after frame t, or came with it",
        choices=("auto", "after", "before"),
    )


@dataclass
class ExportOptions:
    """What is written, and as what."""

    run: str = setting(MISSING, "a run folder, or a dataset")
    out: str = setting(MISSING, "a folder that is not there yet")
    format: str = setting(
        "minari", "minari, or one mp4 an episode with actions and rewards beside it", choices=("minari", "mp4")
    )
