"""The weights of a run in the safetensors format: an 8-byte length, a JSON header, raw tensors. No code runs on reading.

https://huggingface.co/docs/safetensors describes it. Both directions are here, so that a folder from the hub opens without a
further package.
"""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamas.config import PARTS
from adamas.utils.errors import UserError

NAME = "model.safetensors"
TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
NAMES = {dtype: name for name, dtype in TYPES.items()}
MOST_HEADER = 100_000_000  # bytes; the format's own limit


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Tensors of the types of TYPES, by name. Data starts at a multiple of 8 bytes."""
    header: dict[str, Any] = {"__metadata__": metadata}
    blobs, place = [], 0
    for name, tensor in sorted(tensors.items()):
        blobs.append(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        end = place + len(blobs[-1])
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(b"".join([struct.pack("<Q", len(text)), text, *blobs]))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata. UserError where the file is damaged or holds a type that is none of TYPES."""
    content = bytearray(path.read_bytes())
    try:
        (length,) = struct.unpack_from("<Q", content)
        if length > min(MOST_HEADER, len(content) - 8):
            raise ValueError("header")
        header = json.loads(content[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        return {name: _tensor(content, 8 + length, **facts) for name, facts in header.items()}, metadata
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, struct.error) as error:
        raise UserError(f"{path} is damaged, or no safetensors file") from error


def _tensor(content: bytearray, start: int, dtype: str, shape: list[int], data_offsets: list[int]) -> Tensor:
    (begin, end), count = data_offsets, prod(shape)
    if not 0 <= begin <= end <= len(content) - start or (end - begin) != count * TYPES[dtype].itemsize:
        raise ValueError("offsets")
    if count == 0:
        return torch.empty(shape, dtype=TYPES[dtype])
    return torch.frombuffer(content, dtype=TYPES[dtype], count=count, offset=start + begin).reshape(shape).clone()


def save_parts(path: Path, parts: dict[str, Any]) -> None:
    """What `training.export.without_training` leaves of a checkpoint."""
    models = parts["models"]
    tensors = {f"{part}.{key}": value for part in PARTS if part in models for key, value in models[part].items()}
    facts = {
        "averaged": list(models["averages"]),
        "models": {key: value for key, value in models.items() if key not in (*PARTS, "averages")},
        **{key: value for key, value in parts.items() if key not in ("models", "replay")},
    }
    save(path, tensors, {"format": "pt", "adamas": json.dumps(facts)})


def load_parts(path: Path) -> dict[str, Any]:
    """The same again, as a checkpoint holds it. UserError where adamas has not written the file."""
    tensors, metadata = load(path)
    try:
        facts = json.loads(metadata["adamas"])
        averaged, models = facts.pop("averaged"), facts.pop("models")
        weights = {
            part: {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{part}.")}
            for part in PARTS
            if any(key.startswith(f"{part}.") for key in tensors)
        }
        averages = {
            part: {"n_averaged": torch.tensor(1), **{f"module.{k}": v for k, v in weights[part].items()}}
            for part in averaged
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no weights of adamas") from error
    return {**facts, "models": {**models, **weights, "averages": averages}, "replay": None}
