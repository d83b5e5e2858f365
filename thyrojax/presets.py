"""Finds a preset: the name of a module of `experiments`, or a Python file, that sets `config`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from thyrojax.config import Config
from thyrojax.errors import ConfigError

PRESETS = ("quickstart", "guan2019", "ddti", "busbra")


def load_preset(name: str) -> Config:
    """The `config` of a preset.

    Raises:
      ConfigError: no such preset or file, or one that sets no `Config` named `config`.
    """
    if name in PRESETS:
        module = importlib.import_module(f"experiments.{name}")
    elif name.endswith(".py"):
        module = _run_file(Path(name))
    else:
        raise ConfigError(f"preset: found {name!r}, expected {', '.join(PRESETS)} or a FILE.py")
    config = getattr(module, "config", None)
    if not isinstance(config, Config):
        raise ConfigError(f"{name}: found no `config`, expected a thyrojax.config.Config")
    return config


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{path}: found no such file, expected a preset")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: found no Python module, expected a preset")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:  # a preset is the user's code
        raise ConfigError(f"{path}: found {error!r} when run, expected a preset") from error
    return module


def override(config: Config, arguments: Sequence[str], command: str) -> Config:
    """The configuration with `--field value` arguments over it, parsed by tyro.

    Raises:
      ConfigError: an unknown field, or a value of the wrong type or range; one line.
    """
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return tyro.cli(
                Config, prog=command, default=config, args=list(arguments), use_underscores=False
            )
    except SystemExit:
        raise ConfigError(f"options: {_one_line(said.getvalue())}") from None


def _one_line(box: str) -> str:
    """tyro's error box as one line of text."""
    words = "".join(" " if char in "│╭╮╰╯─┌┐└┘" else char for char in box).split()
    return " ".join(words)[:300]


def fields_help() -> str:
    """Every field of a configuration with its default, a line each."""
    return "\n".join(
        f"  --{field.name.replace('_', '-'):<22} {field.default!r}"
        for field in dataclasses.fields(Config)
    )
