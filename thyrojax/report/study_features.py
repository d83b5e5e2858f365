"""Table 2 and Table 3 of the paper: right and wrong by feature, and odds ratios of a wrong call."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from thyrojax.analysis.study import Study
from thyrojax.analysis.table import NOTE, Cell, Table
from thyrojax.report.markup import Estimate, estimate, paragraph, table
from thyrojax.report.study_facts import Record, number
from thyrojax.report.study_tables import (
    Notes,
    View,
    cell_of,
    count,
    decimal,
    file_of,
    odds,
    p_value,
    present,
    print_table,
    text,
    verbatim,
)

_P_VALUES = (
    ("p_chi2", "P, chi-squared"),
    ("p_chi2_holm", "Holm"),
    ("p_chi2_bh", "Benjamini-Hochberg"),
    ("p_exact", "P, exact"),
    ("p_exact_holm", "Holm (exact)"),
    ("p_exact_bh", "Benjamini-Hochberg (exact)"),
    ("expected_min", "Smallest expected count"),
)
_WORDS = {"margin_feature": "margin of the nodule", "tirads": "TI-RADS", "ete": "ETE"}
_SMALL_HERE = "Expected count below 5."
_SMALL = "An expected count is below 5: read the exact P, not the chi-squared one."


def print_features(study: Study) -> list[str]:
    """Right and wrong by category for each class, and all P values with their corrections."""
    if "features" not in study.tables:
        return []
    source = study.tables["features"]
    empty = [row for row in source.records() if row["label"] is None]
    labels = [label for label in dict.fromkeys(source.column("label")) if label is not None]
    # Malignant first, as the paper has it.
    labels.sort(key=lambda label: class_name(study, label) != study.label_names[1])
    parts = [
        paragraph(
            "Calls at the cutoff that were right and wrong, by category of each feature, for each "
            "class apart. P: whether the share of wrong calls differs among the categories."
        )
    ]
    parts += [
        paragraph(f"{_title(row['feature']) or 'Features'}: {row.get(NOTE)}.") for row in empty
    ]
    for label in labels:
        rows = [row for row in source.records() if row["label"] == label]
        parts.append(_counts(study, rows, class_name(study, label)))
    return [*parts, _p_values(study, source)] if labels else parts


def class_name(study: Study, label: Cell) -> str:
    """The name of a class in a table: by its number, or as the table has it."""
    if isinstance(label, int) or label in ("0", "1"):
        return study.label_names[int(label)]
    return str(label)


def _counts(study: Study, rows: Sequence[Record], name: str) -> str:
    """One class: a row for each feature with its P values, below it one for each category."""
    lettered, group_rows = Notes(), []
    printed: list[list[object]] = []
    for feature, of_feature in itertools.groupby(rows, key=lambda row: row["feature"]):
        categories = list(of_feature)
        group_rows.append(len(printed))
        totals: list[Cell] = [
            sum(int(number(row, column) or 0) for row in categories)
            for column in ("n", "right", "wrong")
        ]
        small = any(_is_small(row) for row in categories)
        heading = lettered.mark(_title(feature), _SMALL if small else "")
        printed.append([heading, *_shares(*totals), *_tests(categories)])
        for row in categories:
            label = lettered.mark(
                _title(row["category"]), _SMALL_HERE if _is_small(row) else "", row.get(NOTE)
            )
            counts = _shares(row["n"], row["right"], row["wrong"])
            printed.append([label, *counts, estimate(""), estimate("")])
    header = ("Feature", "n", "Right (%)", "Wrong (%)", "P, chi-squared", "P, exact")
    caption = f"{_title(name)} cases: right and wrong calls by sonographic feature."
    return f"{table(caption, header, printed, group_rows=group_rows)}\n{lettered.below()}"


def _shares(n: Cell, right: Cell, wrong: Cell) -> list[Estimate]:
    total = int(n or 0)
    cells = [estimate(count(n))]
    for part in (right, wrong):
        share = f" ({100 * int(part or 0) / total:.1f})" if total else ""
        cells.append(estimate(f"{count(part)}{share}"))
    return cells


def _tests(categories: Sequence[Record]) -> list[Estimate]:
    """The P values of a feature, which stand in each of its rows."""
    return [estimate(p_value(categories[0].get(name))) for name in ("p_chi2", "p_exact")]


def _is_small(row: Record) -> bool:
    return row.get("small_expected") in (True, 1, "yes", "true")


def _p_values(study: Study, source: Table) -> str:
    """Every feature and class with all its P values."""
    lettered = Notes()
    printed: list[list[object]] = []
    columns = [(name, heading) for name, heading in _P_VALUES if name in source.columns]
    stated = [row for row in source.records() if row["label"] is not None]
    for (feature, label), rows in itertools.groupby(
        stated, key=lambda row: (row["feature"], row["label"])
    ):
        categories = list(rows)
        cells: list[object] = []
        for name, _ in columns:
            found = [row[name] for row in categories if row["n"] and row.get(name) is not None]
            if name == "expected_min":
                cells.append(estimate(decimal(min(found, key=_as_float, default=None))))
            else:
                cells.append(estimate(p_value(found[0] if found else None)))
        small = any(_is_small(row) for row in categories)
        untested = [str(row.get(NOTE)) for row in categories if row.get("p_chi2") is None]
        heading = lettered.mark(
            f"{_title(feature)}, {class_name(study, label)}",
            _SMALL if small else "",
            *(untested if len(untested) == len(categories) else ()),
        )
        printed.append([heading, *cells])
    header = ["Feature and class", *(heading for _, heading in columns)]
    body = table("P values of the features, as they are and corrected.", header, printed)
    return f"{body}\n{lettered.below([*source.footnotes, file_of(source)])}"


def print_odds_ratios(study: Study) -> list[str]:
    """Univariate and multivariate side by side, then profile and Firth intervals."""
    source = study.tables["odds_ratios"]
    models = list(dict.fromkeys(str(row["model"]) for row in source.records()))
    lettered = Notes()
    printed: list[list[object]] = []
    ratio = View("", ("odds_ratio", "ci_low", "ci_high"), odds)
    by_variable: dict[str, dict[str, Record]] = {}
    for row in source.records():
        by_variable.setdefault(str(row["variable"]), {})[str(row["model"])] = row
    for variable, rows in by_variable.items():
        cells: list[object] = [
            lettered.mark(text(variable), *(row.get(NOTE) for row in rows.values()))
        ]
        for model in models:
            if model in rows:
                cells.append(cell_of(rows[model], ratio))
                cells.append(estimate(p_value(rows[model]["p"])))
            else:
                cells += [estimate("not in model"), estimate("")]
        printed.append(cells)
    header = ["Factor"]
    for model in models:
        header += [f"{_title(model)} odds ratio", f"P, {model}"]
    body = table(f"{source.caption} 95 % intervals: Wald.", header, printed)
    beside = [
        View("Factor", ("variable",), text),
        View("Model", ("model",), verbatim),
        View("Cases", ("n",), count),
        View("Wrong calls", ("errors",), count),
        View("Exposed", ("n_exposed",), count),
        View("Wrong among exposed", ("errors_exposed",), count),
        View("Profile likelihood", ("odds_ratio", "profile_low", "profile_high"), odds),
        View("Firth", ("firth_odds_ratio", "firth_low", "firth_high"), odds),
        View("P, Firth", ("firth_p",), p_value),
    ]
    return [
        f"{body}\n{lettered.below(source.footnotes)}",
        "<h3>Other intervals of the odds ratios</h3>",
        print_table(
            source,
            present(source, beside),
            caption="Odds ratios with profile-likelihood intervals, and Firth's estimates.",
            footnotes=(),
        ),
    ]


def _as_float(cell: Cell) -> float:
    return float(cell or 0.0)


def _title(words: Cell) -> str:
    """A name as a heading, as the field writes it."""
    shown = _WORDS.get(str(words), text(words))
    return shown[:1].upper() + shown[1:]
