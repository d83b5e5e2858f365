"""What may go with a misdiagnosis: exposures as categories of features, declared in a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyrojax.analysis.features import NOT_CATEGORIES
from thyrojax.errors import PredictionsError
from thyrojax.vocabulary import PREDICTION_FEATURES

_KINDS = {
    "name": "a text",
    "feature": "a text",
    "exposed": "a list of categories",
    "reference": "a list of categories",
    "multivariate": "true or false",
}


@dataclass(frozen=True)
class Exposure:
    """Cases with an `exposed` category of a feature, against those with a `reference` category.

    A case of any other category takes no part. `multivariate`: also in the joint model.
    """

    name: str
    feature: str
    exposed: tuple[str, ...]
    reference: tuple[str, ...]
    multivariate: bool


def read_exposures(
    path: Path, columns: Mapping[str, Sequence[str]] | None = None
) -> tuple[Exposure, ...]:
    """Reads `[[exposure]]` entries.

    Each has `name, feature, exposed = [...], reference = [...], multivariate = true|false`
    (`multivariate` may be left out: false).

    Args:
      path: the TOML file.
      columns: the category columns of the predictions. A feature may be one of these as well as
        of the vocabulary, and a category may be one that occurs there.

    Raises:
      PredictionsError: no such file, not TOML, no entry, or the first fault of an entry: a key
        missing, unknown or of another kind, a feature or category that nobody knows, an empty
        list, a category on both sides or twice, a name twice.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise PredictionsError(f"{path}: found no such file, expected an exposure file") from None
    except OSError as error:
        raise PredictionsError(
            f"{path}: found no readable file ({error.strerror}), expected an exposure file"
        ) from None
    except UnicodeDecodeError:
        raise PredictionsError(
            f"{path}: found bytes that are no UTF-8 text, expected an exposure file"
        ) from None
    except tomllib.TOMLDecodeError as error:
        reason = " ".join(str(error).split())
        raise PredictionsError(f"{path}: found broken TOML ({reason}), expected TOML") from None
    entries = content.pop("exposure", None)
    if content:
        raise PredictionsError(
            f"{path}: found key {next(iter(content))!r}, expected only [[exposure]]"
        )
    if not isinstance(entries, list) or not entries:
        raise PredictionsError(f"{path}: found no [[exposure]], expected at least one")
    usable = {name: cells for name, cells in (columns or {}).items() if name not in NOT_CATEGORIES}
    exposures: list[Exposure] = []
    for number, entry in enumerate(entries, start=1):
        name = entry.get("name", "") if isinstance(entry, dict) else ""
        place = f"{path}, exposure {number}" + (f" ({name})" if isinstance(name, str) else "")
        exposures.append(_exposure(place.removesuffix(" ()"), entry, usable))
        if exposures[-1].name in [other.name for other in exposures[:-1]]:
            raise PredictionsError(f"{place}: found name {name!r} again, expected each name once")
    return tuple(exposures)


def default_exposures() -> tuple[Exposure, ...]:
    """The nine rows of Table 3 of Guan et al. 2019."""
    return read_exposures(Path(__file__).with_name("guan2019_exposures.toml"))


def _exposure(place: str, entry: Any, columns: Mapping[str, Sequence[str]]) -> Exposure:
    def fail(found: str, expected: str) -> PredictionsError:
        return PredictionsError(f"{place}: found {found}, expected {expected}")

    if not isinstance(entry, dict):
        raise fail(repr(entry), "a table of keys")
    for key in entry:
        if key not in _KINDS:
            raise fail(f"key {key!r}", "only " + ", ".join(_KINDS))
    entry = {"multivariate": False, **entry}
    for key, kind in _KINDS.items():
        if key not in entry:
            raise fail(f"no {key}", kind)
        if not _is_kind(kind, entry[key]):
            raise fail(f"{key} = {entry[key]!r}", kind)
    feature = entry["feature"]
    if feature not in PREDICTION_FEATURES and feature not in columns:
        known = ", ".join(
            [*PREDICTION_FEATURES, *(name for name in columns if name not in PREDICTION_FEATURES)]
        )
        raise fail(f"feature {feature!r}", f"one of {known}")
    known_categories = list(PREDICTION_FEATURES.get(feature, ()))
    occurring = sorted({text.strip() for text in columns.get(feature, ())} - {""})
    known_categories += [text for text in occurring if text not in known_categories]
    for side in ("exposed", "reference"):
        if not entry[side]:
            raise fail(f"{side} = []", "at least one category")
        for category in entry[side]:
            if category not in known_categories:
                shown = ", ".join(known_categories[:20])
                raise fail(f"category {category!r} of {feature} in {side}", f"of {shown}")
            if entry[side].count(category) > 1:
                raise fail(f"category {category!r} twice in {side}", "each once")
    for category in entry["exposed"]:
        if category in entry["reference"]:
            raise fail(f"category {category!r} in exposed and in reference", "it on one side")
    return Exposure(
        entry["name"],
        feature,
        tuple(entry["exposed"]),
        tuple(entry["reference"]),
        entry["multivariate"],
    )


def _is_kind(kind: str, value: Any) -> bool:
    if kind == "a text":
        return isinstance(value, str) and bool(value.strip())
    if kind == "true or false":
        return isinstance(value, bool)
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
