"""What the user of a study may choose, and what the choices mean for the cases at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from thyrojax.analysis.cutoff import HALF, Cutoff, Rule, apply_rule
from thyrojax.analysis.exposures import Exposure, default_exposures
from thyrojax.analysis.predictions import Predictions
from thyrojax.analysis.readers import READER_COLUMN, has_reader
from thyrojax.errors import PredictionsError


@dataclass(frozen=True)
class Options:
    """What the user may choose. Shares are from 0 to 1, sizes in cm.

    Attributes:
      cutoff: a fixed cutoff; None chooses it by `rule` on the validation cases, 0.5 without any.
      rule: how the cutoff is chosen; None is Youden's.
      optimistic: chooses the cutoff on the reported cases themselves, and says so everywhere.
      prevalence: for predictive values and net benefit; None is the sample's share.
      exposures: for the odds ratios of misdiagnosis; None takes those of the paper's Table 3.
      reader: the column of a reader's calls; None takes `reader_label` where the file has it.
      robust: the standard errors of the odds ratios; None takes nodules as independent.
    """

    cutoff: float | None = None
    rule: Rule | None = None
    optimistic: bool = False
    prevalence: float | None = None
    interval: Literal["wilson", "exact"] = "wilson"
    edges_cm: tuple[float, ...] = (0.5, 1.0)
    exposures: tuple[Exposure, ...] | None = None
    reader: str | None = None
    robust: Literal["cluster", "gee"] | None = None
    label_names: tuple[str, str] = ("benign", "malignant")
    resamples: int = 2000
    seed: int = 0


def check_options(options: Options) -> None:
    """Refuses what no study can take.

    Raises:
      PredictionsError: names the option, what was found and what is expected.
    """
    cutoff, prevalence, edges = options.cutoff, options.prevalence, options.edges_cm
    rising = all(low < high for low, high in zip((0.0, *edges), (*edges, math.inf), strict=True))
    for good, name, found, expected in (
        (cutoff is None or 0.0 <= cutoff <= 1.0, "cutoff", cutoff, "a score from 0 to 1"),
        (prevalence is None or 0.0 < prevalence < 1.0, "prevalence", prevalence, "between 0 and 1"),
        (options.resamples >= 100, "resamples", options.resamples, "at least 100"),
        (options.seed >= 0, "seed", options.seed, "a whole number from 0 up"),
        (
            cutoff is None or options.rule is None,
            "cutoff rule",
            options.rule,
            f"none beside the fixed cutoff {cutoff}",
        ),
        (rising, "edges", " ".join(map(str, edges)), "rising sizes in cm above 0"),
    ):
        if not good:
            raise PredictionsError(f"{name}: found {found}, expected {expected}")


def study_cutoff(
    name: str,
    models: dict[str, Predictions],
    validation: dict[str, Predictions],
    options: Options,
) -> Cutoff:
    """A model's cutoff: fixed, chosen on its validation cases, the lead's, or 0.5."""
    if options.cutoff is not None:
        return Cutoff(options.cutoff, "fixed by the user")
    rule = options.rule or Rule("youden")
    lead = next(iter(models))
    if options.optimistic:
        cases, part = models[name], "reported"
    elif name in validation:
        cases, part = validation[name], "validation"
    elif name != lead and lead in validation:
        found = study_cutoff(lead, models, validation, options)
        return Cutoff(found.value, f"{lead}'s: {found.source}")
    elif options.rule is not None and rule.kind != "half":
        raise PredictionsError(
            f"cutoff rule {rule}: found no validation cases, expected --cutoff-from, or "
            "--optimistic to choose it on the reported cases"
        )
    else:
        return Cutoff(HALF, "0.5, fixed: no validation cases were given")
    try:
        return apply_rule(rule, cases.labels, cases.scores, part, options.optimistic)
    except PredictionsError as error:
        raise PredictionsError(f"{name}, {part} cases, {error}") from None


def exposures_of(cases: Predictions, options: Options) -> tuple[Exposure, ...]:
    """The declared exposures; of the paper's, those whose feature the cases state."""
    if options.exposures is not None:
        return options.exposures
    stated = {name for name, cells in cases.columns.items() if any(cells)}
    return tuple(exposure for exposure in default_exposures() if exposure.feature in stated)


def reader_of(cases: Predictions, options: Options) -> str:
    """The column of the reader's calls; "" where none is asked for and none is there.

    Raises:
      PredictionsError: the column that the user names is not there.
    """
    if options.reader is None:
        return READER_COLUMN if has_reader(cases) else ""
    if options.reader not in cases.columns:
        columns = ", ".join(cases.columns) or "no further column"
        raise PredictionsError(
            f"--reader: found no column {options.reader!r}, expected one of {columns}"
        )
    return options.reader
