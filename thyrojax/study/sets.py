"""The built sets that a study is run on, and the base configuration that belongs to them."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from thyrojax.config import Config
from thyrojax.data.builder import build
from thyrojax.data.dataset import open_dataset
from thyrojax.data.sources import read_source
from thyrojax.errors import ConfigError
from thyrojax.presets import PRESETS, load_preset
from thyrojax.study.plan import Study, check_fields

PHANTOM = "phantom"
PHANTOM_PATIENTS = 600
SMALL_PATIENTS = 300
# Of phantoms and of a hospital's own set.
_PRESET_OF = {PHANTOM: "quickstart"}
_OTHERS = "guan2019"


def open_sets(texts: Sequence[str], workdir: Path, small: bool) -> dict[str, Path]:
    """The sets by name: DIR or "phantom" is the main one (""), NAME=DIR a further one.

    The phantom is built into WORKDIR/data/phantom, once.

    Raises:
      ConfigError: no main set, or a name twice; a phantom of the other size is there.
      DataError: a set cannot be opened.
    """
    sets: dict[str, Path] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        name, place = (name, rest) if equals and not Path(text).exists() else ("", text)
        if name in sets:
            raise ConfigError(f"--data {text}: found a second such set, expected NAME=DIR for more")
        sets[name] = _phantom(workdir, small) if place == PHANTOM else Path(place)
        open_dataset(sets[name])
    if "" not in sets:
        raise ConfigError(f"--data: found {', '.join(texts)}, expected a DIR or phantom")
    return sets


def base_config(study: Study, data: Path, small: bool) -> Config:
    """The preset that belongs to a set's source, with the study's small fields if so wished.

    Raises:
      ConfigError: a field of `Study.small` that a configuration cannot take.
    """
    check_fields(f"{study.name}, small", study.small)
    source = open_dataset(data).info["source"]
    preset = _PRESET_OF.get(source, source if source in PRESETS else _OTHERS)
    config = load_preset(preset)
    if study.folds and not config.folds:
        config = dataclasses.replace(config, folds=study.folds)
    return dataclasses.replace(config, **study.small) if small else config


def _phantom(workdir: Path, small: bool) -> Path:
    folder = workdir / "data" / PHANTOM
    patients = SMALL_PATIENTS if small else PHANTOM_PATIENTS
    if folder.exists():
        found = len({record.patient_id for record in open_dataset(folder).records})
        if found != patients:
            raise ConfigError(
                f"{folder}: found {found} patients, expected {patients} "
                f"{'with' if small else 'without'} --small; take a new --workdir"
            )
        return folder
    source = read_source(PHANTOM, None, n_patients=patients)
    # Each machine that shares the folder may build its own: they are alike, the first one stays.
    own = folder.with_name(f".{PHANTOM}-{platform.node()}-{os.getpid()}")
    build(source, own, mask_overlay=False)
    try:
        own.rename(folder)
    except OSError:
        shutil.rmtree(own)
    return folder
