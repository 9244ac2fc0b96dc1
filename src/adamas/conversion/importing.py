"""`adamas data import`: finds what there is to read, says how it was understood, and writes it as a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from adamas.conversion.minari_files import minari_episodes, minari_folder
from adamas.conversion.npz import open_npz
from adamas.conversion.settings import ImportOptions
from adamas.conversion.source import Source
from adamas.conversion.steps import Arrays, Unsettled
from adamas.conversion.videos import SUFFIXES, open_pictures, open_video, picture_files
from adamas.conversion.writer import DatasetWriter
from adamas.data import storage
from adamas.utils.console import progress_bar, say, warn
from adamas.utils.errors import UserError
from adamas.utils.files import check_new, new_folder


class Found(NamedTuple):
    """Something to import, not yet opened."""

    name: str
    open: Callable[[], Source]


def import_data(options: ImportOptions) -> None:
    """Writes the folder options.out, whole or not at all. What is malformed costs a line.

    Raises:
        UserError: nothing could be imported, or something could mean two things.
    """
    out, found = Path(options.out), find(Path(options.source), options)
    check_new(out)
    sources = [source for item in found if (source := _open(item))]
    if not sources:
        raise UserError(f"nothing was imported: {_count(len(found))} of {options.source} skipped")
    _say_meaning(sources)
    with new_folder(out) as part:
        writer = DatasetWriter(part)
        _write(sources, writer)
        skipped = len(found) - writer.sources
        if not writer.sources:
            raise UserError(f"nothing was imported: {_count(skipped)} of {options.source} skipped")
    say(f"{out}: {writer.rows:,} frames in {writer.episodes:,} episodes, actions 0 to {writer.most_action}")
    if skipped:
        say(f"{_count(skipped)} of {len(found)} skipped", error=True)


def find(source: Path, options: ImportOptions) -> list[Found]:
    """UserError where there is nothing to read, or more than one kind of it."""
    folder = minari_folder(source) if options.kind in ("auto", "minari") else None
    if folder:
        return [Found(*episode) for episode in minari_episodes(folder, options)]
    if not source.exists():
        raise UserError(f"{source} is neither a file nor a folder, nor a Minari dataset of this machine")
    kinds = {kind: items for kind, items in _files(source, options).items() if items and options.kind in ("auto", kind)}
    if len(kinds) > 1:
        raise UserError(f"{source} holds {' and '.join(kinds)}: set {' or '.join(f'kind={kind}' for kind in kinds)}")
    if not kinds:
        wanted = "npz files, films, folders of PNG or a Minari dataset" if options.kind == "auto" else options.kind
        raise UserError(f"{source} holds no {wanted}")
    (items,) = kinds.values()
    return items


def _files(source: Path, options: ImportOptions) -> dict[str, list[Found]]:
    """What `source` is or holds, by kind."""
    storage.refuse_run(source)
    there = [source] if source.is_file() else sorted(path for path in source.iterdir() if not path.name.startswith("."))
    npz = [path for path in there if path.suffix == ".npz"]
    if any(storage.row_span(path) for path in npz):
        raise UserError(f"{source} is a dataset of adamas already: dataset={source} takes it as it is")
    folders = [path for path in (source, *there) if path.is_dir() and picture_files(path)]
    videos = [path for path in there if path.suffix.lower() in SUFFIXES]
    return {
        "npz": [Found(str(path), lambda path=path: open_npz(path, options)) for path in npz],
        "videos": [Found(str(path), lambda path=path: open_video(path, options)) for path in videos],
        "pictures": [Found(str(path), lambda path=path: open_pictures(path, options)) for path in folders],
    }


def _open(item: Found) -> Source | None:
    try:
        return item.open()
    except Unsettled:
        raise
    except UserError as error:
        warn(f"skipped: {error}")
        return None


def _write(sources: list[Source], writer: DatasetWriter) -> None:
    frames = sum(source.frames for source in sources)
    with progress_bar(frames, " frames", desc="import", unit_scale=True) as bar:
        for source in sources:
            try:
                for rows in _read(source):
                    writer.add(rows)
                    bar.update(len(rows["obs"]))
            except UserError as error:
                writer.drop()
                bar.clear()
                warn(f"skipped: {' '.join(str(error).split())}")
                continue
            writer.keep()
        writer.close()


def _read(source: Source) -> Iterator[Arrays]:
    """Its rows. UserError when they cannot be read: an OSError that is left comes from writing."""
    try:
        yield from source.rows()
    except storage.UNREADABLE as error:
        raise UserError(f"{source.path} cannot be read: {error}") from error


def _say_meaning(sources: list[Source]) -> None:
    """Each way of reading once, with how many files it is of."""
    ways = Counter(line for source in sources for line in source.meaning)
    for line, count in ways.items():
        say(f"  {line}" + (f" ({count} of {len(sources)})" if count < len(sources) else ""))


def _count(files: int) -> str:
    return f"{files} file{'s' if files != 1 else ''}"
