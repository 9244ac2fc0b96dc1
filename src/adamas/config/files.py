"""A config as a YAML file, which tells its own damage."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from adamas.config import Config
from adamas.config.hints import in_words
from adamas.config.legacy import translated
from adamas.utils.errors import UserError, is_passing
from adamas.utils.files import publish
from adamas.utils.quoting import escaped

DIGEST = "# sha256 of the lines below: "  # the first line, so that a file that was cut off does not lose it
OLDER_DIGEST = "# sha256 of the lines above: "  # the last line


def save_config(config: Config, path: Path) -> None:
    """Writes every setting of `config` as YAML, whole or not at all: without it a run cannot be resumed."""
    text, temporary = to_yaml(config), path.with_suffix(".tmp")
    temporary.write_text(f"{DIGEST}{_digest(text)}\n{text}", encoding="utf-8")
    publish(temporary, path)


def to_yaml(config: Config) -> str:
    """Every setting, section by section."""
    return OmegaConf.to_yaml(OmegaConf.create(as_plain(config)))


def as_plain(config: Config) -> dict[str, Any]:
    """Plain data of which OmegaConf makes the same config again."""
    return _literal(dataclasses.asdict(config))


def _literal(node: Any) -> Any:
    """Without interpolations: a `${` in a text stands for itself."""
    if isinstance(node, dict):
        return {key: _literal(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_literal(value) for value in node]
    return escaped(node) if isinstance(node, str) else node


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check_digest(text: str, path: Path) -> None:
    """Files of the oldest versions have no digest."""
    first, _, below = text.partition("\n")
    above, older, last = text.rpartition(OLDER_DIGEST)
    if first.startswith(DIGEST):
        body, digest, line = below, first.removeprefix(DIGEST), "first"
    elif older:
        body, digest, line = above, last, "last"
    else:
        return
    if _digest(body) != digest.strip():
        raise UserError(
            f"{path} is damaged: it does not match the digest in its {line} line; if you changed it on purpose, delete that line"
        )


def config_of_run(run: str | Path, said: str = "") -> Path:
    """The file that holds the config of a run folder. UserError when there is none.

    Args:
        said: what the user wrote before the name of the folder, for the error.
    """
    path = Path(run) / "config.yaml"
    if not str(run) or not path.is_file():
        raise UserError(f"{said}{run} is not a run folder: it has no config.yaml")
    return path


def load_config(path: Path) -> Config:
    """Reads what `save_config` wrote. A setting that is newer than the file gets its default."""
    try:
        text = path.read_text(encoding="utf-8")
        _check_digest(text, path)
        saved = OmegaConf.create(text)
        if not saved:
            raise UserError(f"{path} is empty")
        known = OmegaConf.to_container(saved) if isinstance(saved, DictConfig) else None
        if not isinstance(known, dict):
            raise UserError(f"{path} is damaged: it holds no settings")
        known = translated(cast(dict[str, Any], known), str(path))
        return cast(Config, OmegaConf.to_object(OmegaConf.merge(schema(), known)))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {in_words(error)}") from error
    except (AssertionError, AttributeError, TypeError) as error:  # a number alone, or a section that is not one
        raise UserError(f"{path} is damaged: {str(error) or 'it holds no settings'}") from error
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        if is_passing(error):
            raise
        raise UserError(f"{path} cannot be read: {in_words(error)}") from error


@functools.cache
def schema() -> DictConfig:
    """Every setting with its type and default. Not to be changed: merge something into it."""
    schema = OmegaConf.structured(Config)
    OmegaConf.set_struct(schema, True)  # closes `initialize`, which is a plain dict, to unknown keys too
    return schema
