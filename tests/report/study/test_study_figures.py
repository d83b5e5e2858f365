"""A study's figures show the figures of its tables, and nothing that was computed anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from thyrojax.analysis.study import Study
from thyrojax.analysis.table import Table
from thyrojax.report import study_figures, study_intervals
from thyrojax.report.study_figures import draw_study


def _with_table(study: Study, table: Table) -> Study:
    return dataclasses.replace(study, tables={**study.tables, table.name: table})


def _changed(study: Study, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Study:
    source = study.tables[name]
    rows = tuple(tuple(change(row).values()) for row in source.records())
    return _with_table(study, dataclasses.replace(source, rows=rows))


def _words(figure: Any) -> str:
    """Everything that is written in a figure."""
    from matplotlib.text import Text

    figure.canvas.draw()
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_a_study_of_one_model_has_its_roc_curve_only(
    make_small_study: Callable[..., Study],
) -> None:
    assert set(draw_study(make_small_study())) == {"roc"}


def test_a_study_of_one_class_has_no_curve(make_small_study: Callable[..., Study]) -> None:
    small = make_small_study()
    tables = {"operating_point": small.tables["operating_point"]}
    assert draw_study(dataclasses.replace(small, tables=tables)) == {}


def test_the_roc_curve_is_the_tables_and_the_point_is_that_of_the_metrics(study: Study) -> None:
    axes = study_figures.draw_roc(study).axes[0]
    curve = max(axes.lines, key=lambda line: len(line.get_xdata()))
    assert tuple(curve.get_xdata()) == study.tables["roc"].column("fpr")
    assert tuple(curve.get_ydata()) == study.tables["roc"].column("tpr")
    metrics = study.metrics
    point = axes.containers[0].lines[0]
    assert point.get_xdata()[0] == pytest.approx(1 - metrics["specificity"])
    assert point.get_ydata()[0] == pytest.approx(metrics["sensitivity"])


def test_where_patients_repeat_the_key_has_their_interval(study: Study) -> None:
    low, high = study.metrics["auc_ci_cluster"]
    assert (low, high) != tuple(study.metrics["auc_ci"])
    assert f"({low:.3f} to {high:.3f})" in _words(study_figures.draw_roc(study))


def test_models_differ_in_dashes_and_in_markers_and_the_key_has_their_areas(study: Study) -> None:
    figure = study_figures.draw_roc_models(study)
    lines = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert len(lines) == 5
    assert len({line.get_linestyle() + str(line._unscaled_dash_pattern) for line in lines}) == 5
    assert len({line.get_marker() for line in lines}) == 5
    assert "margin 0: AUC 0.921 (0.891 to 0.951)" in _words(figure)


@pytest.mark.parametrize("count", [12, 40])
def test_many_models_are_drawn_and_no_two_of_a_dozen_look_alike(
    make_whole_study: Callable[..., Study], count: int
) -> None:
    names = tuple(f"model {number}" for number in range(count))
    many = make_whole_study(names=names, lead="model 0")
    lines = study_figures.draw_roc_models(many).axes[0].lines
    looks = [
        (line.get_color(), line.get_linestyle(), line.get_marker())
        for line in lines
        if line.get_marker() != "None"
    ]
    assert len(looks) == count
    assert len(set(looks[:12])) == 12


def test_names_are_drawn_as_they_are_written(make_whole_study: Callable[..., Study]) -> None:
    name = "m$_5$ & <b>" + "long " * 30
    drawn = draw_study(make_whole_study(names=(name, "b"), lead=name, words="$x_1$ <i>"))
    assert len(drawn) == 9


def test_the_best_model_has_another_shape(study: Study) -> None:
    figure = study_intervals.draw_comparison(study)
    for axes in figure.axes:
        diamonds = [line for line in axes.lines if line.get_marker() == "D"]
        assert [float(line.get_ydata()[0]) for line in diamonds] == [4.0]


def test_a_group_without_cases_says_so_in_its_line(study: Study) -> None:
    assert "no such case" in _words(study_intervals.draw_size_groups(study))


def test_an_interval_far_below_all_others_ends_in_an_arrow(study: Study) -> None:
    few = _changed(
        study,
        "size_groups",
        lambda row: row | {"auc_low": 0.05} if row["group"] == "<0.5" else row,
    )
    axes = study_intervals.draw_size_groups(few).axes[2]
    assert axes.get_xlim()[0] == pytest.approx(0.5)
    assert [line.get_marker() for line in axes.lines].count("<") == 1


def test_separation_is_said_and_firths_estimate_drawn_beside_it(study: Study) -> None:
    figure = study_intervals.draw_odds_ratios(study)
    words = _words(figure)
    assert words.count("0: complete separation") == 2
    assert words.count("0.110 (0.001 to 0.900)") == 2
    assert "Firth, univariate" in words
    # The others have their own intervals; 260 is past the axis and an arrow says so.
    assert "1.410 (0.310 to 260.0)" in words
    assert figure.axes[0].get_xscale() == "log"
    assert [line.get_marker() for line in figure.axes[0].lines].count(">") == 2


def test_an_exposure_that_nobody_has_is_no_separation(study: Study) -> None:
    gaps = dict.fromkeys(("odds_ratio", "ci_low", "ci_high", "p", "firth_odds_ratio"))
    absent = _changed(
        study, "odds_ratios", lambda row: {**row, **gaps, "note": "no case is exposed"}
    )
    words = _words(study_intervals.draw_odds_ratios(absent))
    assert "separation" not in words
    assert words.count("not estimable") == 8


def test_infinite_odds_are_said(study: Study) -> None:
    note = "quasi-complete separation: no finite estimate"
    infinite = _changed(
        study,
        "odds_ratios",
        lambda row: row | {"odds_ratio": float("inf"), "note": note} if row["p"] is None else row,
    )
    words = _words(study_intervals.draw_odds_ratios(infinite))
    assert words.count("infinite: quasi-complete separation") == 2


def test_a_reader_without_a_call_in_one_class_has_no_point(study: Study) -> None:
    one_class = _changed(
        study,
        "readers",
        lambda row: row | {"reader": None, "note": "no case of class 0"},
    )
    only = {name: one_class.tables[name] for name in ("roc", "readers")}
    assert set(draw_study(dataclasses.replace(one_class, tables=only))) == {"roc"}


def test_a_curve_without_a_band_and_thresholds_without_one_are_drawn(study: Study) -> None:
    def bare(row: dict[str, Any]) -> dict[str, Any]:
        gaps = {name: None for name in row if name.endswith(("_low", "_high"))}
        return {**row, **gaps, "note": "no interval"}

    source = study.tables["roc"]
    columns = (*source.columns, "note")
    rows = tuple((*row[:3], None, None, "no interval") for row in source.rows)
    without = _with_table(study, dataclasses.replace(source, columns=columns, rows=rows))
    without = _changed(without, "decision_curve", bare)
    assert "95 % band" not in _words(study_figures.draw_roc(without))
    assert "95 % band" not in _words(study_figures.draw_decision_curve(without))
    assert "95 % band" in _words(study_figures.draw_decision_curve(study))


def test_the_decision_curve_does_not_follow_treat_all_into_the_depths(study: Study) -> None:
    bottom, top = study_figures.draw_decision_curve(study).axes[0].get_ylim()
    assert min(study.tables["decision_curve"].column("treat_all")) < -40
    assert bottom > -0.2
    assert top > max(float(np.max(study.tables["decision_curve"].column("model"))), 0.0)
