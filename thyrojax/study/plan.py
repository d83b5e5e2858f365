"""What a study consists of: arms that are trained, and the ways in which each is scored.

A study is a Python file (or a folder with a `study.py`) that sets `study = Study(...)`. An arm is
the base configuration with some fields changed; a condition is an arm scored in one way. Every arm
is trained for each seed and each fold: those are the units of work.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from thyrojax.config import Config, check_types
from thyrojax.data.dataset import Dataset
from thyrojax.errors import ConfigError

Method = Literal["train", "frozen"]
# What two CPU cores bear: for `Study.small`. One validation, as the last state is what is scored.
SMALL: Mapping[str, Any] = {"input_size": 96, "epochs": 4.0, "eval_every": 4.0}
Kind = Literal["gain", "blur", "speckle", "box", "jpeg", "downscale"]


@dataclass(frozen=True)
class Change:
    """What is done to a nodule before it is scored; `changes` says how, and in which units."""

    kind: Kind
    strength: float


@dataclass(frozen=True)
class Scoring:
    """One way to score an arm's networks.

    Attributes:
      name: part of a file name; "" where an arm has one way only.
      label: as tables print it, after the arm's.
      margin: in the configuration's unit; None is its `margin_eval`.
      change: done to the nodules before; None for none.
      x: the place on the figure's axis.
    """

    name: str = ""
    label: str = ""
    margin: int | None = None
    change: Change | None = None
    x: float | None = None


@dataclass(frozen=True)
class Arm:
    """One configuration.

    Attributes:
      name: of its folder.
      label: as tables print it.
      changes: fields of the configuration and their values.
      method: "train", or "frozen": a logistic regression on features of the weights as they come.
      scorings: each gives a condition.
      data: which of the study's sets it is of; "" is the main one.
      x: the place on the figure's axis.
      keep: whether the networks are kept after they have been scored.
      lacks: of a set, what the arm would need and cannot have there; "" where nothing.
      probe_label: the label as a linear probe, which is trained as it is scored; "" is `label`.
      ingredient: it is there for combined conditions, and has no row of its own in the tables.
    """

    name: str
    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    method: Method = "train"
    scorings: tuple[Scoring, ...] = (Scoring(),)
    data: str = ""
    x: float | None = None
    keep: bool = False
    lacks: Callable[[Dataset], str] = lambda dataset: ""
    probe_label: str = ""
    ingredient: bool = False


@dataclass(frozen=True)
class Combined:
    """A condition whose score is the mean of others' scores of the same nodule.

    Attributes:
      name: in tables.
      label: as tables print it.
      conditions: names of those that are averaged.
      over_seeds: averages the seeds too, so that one ensemble remains; else one for each seed.
    """

    name: str
    label: str
    conditions: tuple[str, ...]
    over_seeds: bool = False


@dataclass(frozen=True)
class Study:
    """What is compared, and how it is told.

    Attributes:
      name: of its files.
      title: of its page.
      question: one sentence that the results answer.
      arms: the arms, from the base configuration (of the data's preset, `small` or not).
      reference: the condition that the others are compared with (`Condition.name`), or which one
        it is with a base configuration.
      answer: the condition whose difference from the reference answers the question; "" is the one
        that differs most.
      small: fields of the base for `--small`.
      seeds: how many, unless told otherwise.
      folds: how many where the base has none; 0 leaves it without.
      subgroups: columns of the predictions by whose categories the results are given too.
      x_label: of the figure's axis, where the conditions have places on one.
      expected: what was known before, with its source, for the page.
      combined: further conditions that are means of others' scores.
      after: further tables and pages, from the finished study; `publish` calls it last.
    """

    name: str
    title: str
    question: str
    arms: Callable[[Config], Sequence[Arm]]
    reference: str | Callable[[Config], str]
    answer: str = ""
    small: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 3
    folds: int = 0
    subgroups: tuple[str, ...] = ()
    x_label: str = ""
    expected: str = ""
    combined: tuple[Combined, ...] = ()
    after: Callable[[Any], Sequence[Any]] | None = None


@dataclass(frozen=True)
class Condition:
    """An arm scored in one way: a row of the study's tables."""

    arm: Arm
    scoring: Scoring

    @property
    def name(self) -> str:
        """ARM, or ARM-SCORING."""
        return self.arm.name + (f"-{self.scoring.name}" if self.scoring.name else "")

    @property
    def label(self) -> str:
        """As tables print it."""
        return ", ".join(filter(None, (self.arm.label, self.scoring.label)))

    @property
    def x(self) -> float | None:
        """Its place on the figure's axis."""
        return self.arm.x if self.scoring.x is None else self.scoring.x


@dataclass(frozen=True)
class Unit:
    """One network to train and score: an arm with one seed, on one fold (0 without folds)."""

    arm: Arm
    config: Config
    fingerprint: str  # of the data

    @property
    def folder(self) -> Path:
        """ARM/seedS, or ARM/seedS-foldF."""
        fold = f"-fold{self.config.fold}" if self.config.folds else ""
        return Path(self.arm.name) / f"seed{self.config.seed}{fold}"


def load_study(place: Path) -> Study:
    """The `study` of a file, or of `study.py` in a folder.

    Raises:
      ConfigError: no such file, or one that sets no `Study` named `study`.
    """
    path = place / "study.py" if place.is_dir() else place
    if not path.is_file() and place.with_suffix(".py").is_file():
        path = place.with_suffix(".py")
    if not path.is_file():
        raise ConfigError(f"{place}: found no such study, expected a .py file or a folder of one")
    name = f"thyrojax_study_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: found no Python module, expected a study")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:  # a study is the user's code
        raise ConfigError(f"{path}: found {error!r} when run, expected a study") from error
    study = getattr(module, "study", None)
    if not isinstance(study, Study):
        raise ConfigError(f"{path}: found no `study`, expected a thyrojax.study.plan.Study")
    return study


def chosen_arms(
    study: Study, base: Config, only: Sequence[str], sets: Mapping[str, Dataset]
) -> tuple[list[Arm], list[str]]:
    """The study's arms, or those named in `only`; and a line for each that is not run.

    Args:
      sets: by the name that arms call them.

    Raises:
      ConfigError: an unknown name; a name that is no file's; two arms of one name; an arm's field
        that does not exist, or a value that is not of its type; the reference is not among the
        study's conditions; a function of the study fails.
    """
    arms = list(_called(study, "arms", study.arms, base))
    names = [arm.name for arm in arms]
    conditions = [condition.name for condition in conditions_of(arms)]
    for name in conditions:
        if not _FILE_NAME.fullmatch(name):
            raise ConfigError(
                f"{study.name}: found an arm or scoring {name!r}, expected letters, digits and "
                ". _ - that begin with none of these, as files are named by it"
            )
    for kind, found in (("arm", names), ("condition", conditions)):
        twice = sorted({name for name in found if found.count(name) > 1})
        if twice:
            raise ConfigError(f"{study.name}: found {kind} {twice[0]!r} twice, expected it once")
    if reference_of(study, base) not in conditions:
        raise ConfigError(
            f"{study.name}, reference: found {reference_of(study, base)!r}, expected one of "
            f"{', '.join(conditions)}"
        )
    known_answers = ["", *conditions, *(one.name for one in study.combined)]
    if study.answer not in known_answers:
        raise ConfigError(
            f"{study.name}, answer: found {study.answer!r}, expected one of "
            f"{', '.join(known_answers[1:])}"
        )
    unknown = [name for name in only if name not in names]
    if unknown:
        raise ConfigError(f"--only: found {unknown[0]!r}, expected one of {', '.join(names)}")
    for arm in arms:
        check_fields(f"{study.name}, arm {arm.name}", arm.changes)
    chosen, left_out = [], []
    for arm in arms:
        lacking = "not asked for" if only and arm.name not in only else _lacking(study, arm, sets)
        if lacking:
            left_out.append(f"{arm.label}: {lacking}")
        else:
            chosen.append(arm)
    if not chosen:
        raise ConfigError(f"{study.name}: found no arm that can be run ({'; '.join(left_out)})")
    return chosen, left_out


def _lacking(study: Study, arm: Arm, sets: Mapping[str, Dataset]) -> str:
    """Why an arm cannot be run on these sets; "" where it can."""
    if arm.data not in sets:
        return f"found no --data {arm.data}=DIR, expected the set {arm.data}"
    if arm.data and sets[arm.data].fingerprint == sets[""].fingerprint:
        return f"found the main set again as {arm.data}, expected another: nothing would differ"
    return str(_called(study, f"lacks of {arm.name}", arm.lacks, sets[arm.data]))


def check_fields(place: str, changes: Mapping[str, Any]) -> None:
    """Refuses changes of a configuration that it cannot take; ranges are not looked at.

    Raises:
      ConfigError: an unknown field, or a value that is not of its field's type.
    """
    known = {field.name for field in dataclasses.fields(Config)}
    odd = sorted(set(changes) - known)
    if odd:
        raise ConfigError(f"{place}: found field {odd[0]!r}, expected one of the configuration")
    try:
        check_types(changes)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def reference_of(study: Study, base: Config) -> str:
    """The name of the condition that the others are compared with."""
    if isinstance(study.reference, str):
        return study.reference
    return _called(study, "reference", study.reference, base)


def conditions_of(arms: Sequence[Arm]) -> list[Condition]:
    """Every arm scored in each of its ways."""
    return [Condition(arm, scoring) for arm in arms for scoring in arm.scorings]


def units_of(
    arms: Sequence[Arm], base: Config, seeds: Sequence[int], sets: Mapping[str, Dataset]
) -> list[Unit]:
    """All units, seed by seed, so that a part of them is a smaller study.

    All seeds have the same parts of the data, drawn from the base's seed. A frozen network does not
    depend on the seed: its one seed is the first.

    Raises:
      ConfigError: a value of an arm is not what its field takes, or is of no effect because the
        parts of the data are given.
    """
    split_seed = base.seed if base.split_seed < 0 else base.split_seed
    units = []
    for place, seed in enumerate(seeds):
        for fold in range(max(base.folds, 1)):
            for arm in arms:
                if arm.method == "frozen" and place:
                    continue
                try:
                    config = dataclasses.replace(
                        base,
                        **{"split_seed": split_seed, "name": arm.name, **arm.changes},
                        seed=seed,
                        fold=fold,
                    )
                except ConfigError as error:
                    raise ConfigError(f"arm {arm.name}: {error}") from None
                _check_split(arm, config)
                units.append(Unit(arm, config, sets[arm.data].fingerprint))
    return units


_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _called(study: Study, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of the study returns, which is the user's code."""
    try:
        return function(*arguments)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{study.name}, {name}: found {error!r} when called") from error


def _check_split(arm: Arm, config: Config) -> None:
    """A given split.csv leaves nothing to draw: what would change the drawing has no effect."""
    drawn = {"folds": 0, "split_by": "patient"}  # of other fields the configuration says so
    for name, without in drawn.items():
        found = getattr(config, name)
        if config.split and found != without:
            raise ConfigError(
                f"arm {arm.name}, {name}: found {found!r} with split {config.split}, expected "
                f"{without!r}, as a given split leaves nothing to draw"
            )
