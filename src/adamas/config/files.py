"""A config as a YAML file."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from adamas.config import Config
from adamas.config.hints import in_words
from adamas.config.legacy import translated
from adamas.utils.errors import UserError
from adamas.utils.files import publish


def save_config(config: Config, path: Path) -> None:
    """Writes every knob of `config` as YAML, whole or not at all: without it a run cannot be resumed."""
    temporary = path.with_suffix(".tmp")
    OmegaConf.save(OmegaConf.structured(config), temporary)
    publish(temporary, path)


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
        saved = OmegaConf.load(path)
        if not saved:
            raise UserError(f"{path} is empty")
        known = translated(OmegaConf.to_container(saved), str(path))
        return OmegaConf.to_object(OmegaConf.merge(schema(), known))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {in_words(error)}") from error
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {in_words(error)}") from error


def schema() -> DictConfig:
    schema = OmegaConf.structured(Config)
    OmegaConf.set_struct(schema, True)  # closes `initialize`, which is a plain dict, to unknown keys too
    return schema
