"""The curves of a run, out of its TensorBoard files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator, ScalarEvent
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from adamas.utils.console import warn as warn_on_stderr

# Of a record (TFRecord): its length and a checksum of that, its bytes and a checksum of these.
LENGTH, CHECK = "<Q", "<I"


def read_scalars(folder: Path, warn: Callable[[str], None] = warn_on_stderr) -> dict[str, list[ScalarEvent]]:
    """{name: (wall_time, step, value) in the order in which they were written}; nothing where there is no such folder.

    TensorBoard reads a damaged file up to the damage, without a word: such a file costs a line to `warn`."""
    if not folder.is_dir():
        return {}
    for path in sorted(folder.glob("*tfevents*")):
        data = path.read_bytes()
        if (good := whole_records(data)) < max(1, len(data)):  # a file begins with a record of its version
            warn(f"{path} is damaged at byte {good}: its curves end there")
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {name: events.Scalars(name) for name in events.Tags()["scalars"]}


def whole_records(data: bytes) -> int:
    """How many of the bytes are records without a fault."""
    place = 0
    while place < len(data):
        header = data[place : place + 8]
        if len(header) < 8 or not _checks(header, data, place + 8):
            return place
        begin = place + 12
        end = begin + struct.unpack(LENGTH, header)[0]
        if end + 4 > len(data) or not _checks(data[begin:end], data, end):
            return place
        place = end + 4
    return place


def _checks(part: bytes, data: bytes, place: int) -> bool:
    """Whether the checksum at this place is that of the part."""
    found = data[place : place + 4]
    return len(found) == 4 and struct.unpack(CHECK, found)[0] == masked_crc32c(part)
