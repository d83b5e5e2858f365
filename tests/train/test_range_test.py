"""The learning-rate range test: its rule on losses by hand, and the command on a small set."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thyrojax import config as config_file
from thyrojax.cli import main
from thyrojax.config import Config
from thyrojax.errors import ConfigError
from thyrojax.train.range_test import RangeTest, draw_range_test, run_range_test, sweep

RATES = np.geomspace(1e-6, 1.0, 61)  # ten a decade


def quietly(line: str) -> None:
    pass


def test_suggestion_is_a_tenth_of_the_rate_with_the_lowest_smoothed_loss() -> None:
    def loss(step: int) -> float:  # falls to 0.1 at step 40, then rises ten times as steeply
        return 0.1 + 0.01 * (40 - step if step <= 40 else 10 * (step - 40))

    found = sweep(loss, RATES)
    # By hand: the smoothed loss is the losses' mean, weighted by 0.98 to the power of their age.
    ages = [np.arange(step, -1, -1) for step in range(61)]
    losses = np.asarray([loss(step) for step in range(61)])
    expected = [np.average(losses[: len(age)], weights=0.98**age) for age in ages]
    np.testing.assert_allclose(found.smoothed, expected, rtol=1e-12)
    assert found.lowest == int(np.argmin(expected)) > 40
    assert found.suggested == pytest.approx(RATES[found.lowest] / 10, rel=1e-12)
    assert not found.diverged
    assert len(found.losses) == 61


@pytest.mark.parametrize("end", [1e3, float("nan"), float("inf")])
def test_test_ends_where_the_smoothed_loss_has_diverged(end: float) -> None:
    asked = []

    def loss(step: int) -> float:
        asked.append(step)
        return 0.7 - 0.01 * step if step < 30 else end

    found = sweep(loss, RATES)
    assert found.diverged
    assert asked == list(range(31))  # no step beyond
    assert (found.lowest, len(found.rates)) == (29, 31)
    assert found.suggested == pytest.approx(RATES[29] / 10)


def test_no_rate_is_suggested_where_the_loss_never_fell() -> None:
    assert sweep(lambda step: 0.7 + 0.01 * step, RATES).suggested is None
    assert sweep(lambda step: float("nan"), RATES).suggested is None
    # Luck in the first tenth, whose averages are of few batches, is no fall, nor its end a rise.
    found = sweep(lambda step: 0.01 if step < 2 else 0.7, RATES)
    assert not found.diverged
    assert (found.lowest, found.suggested, len(found.losses)) == (6, None, 61)


def test_figure_of_any_test_can_be_drawn() -> None:
    from thyrojax.report.figures import render

    for loss in (0.7, float("nan"), 0.0):
        found = sweep(lambda step, loss=loss: loss, RATES)  # type: ignore[misc]
        assert render(draw_range_test, found).png[:4] == b"\x89PNG"


@pytest.fixture(scope="module")
def config(small_config: Config) -> Config:
    """A run that would be frozen, averaged and over long before a range test is."""
    return replace(small_config, batch_size=8, head_epochs=1.0, steps=5, ema=0.9, dropout=0.0)


@pytest.fixture(scope="module")
def found(config: Config, phantom_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A test of 30 steps from 1e-5 to 1, and its folder."""
    out = tmp_path_factory.mktemp("range") / "out"
    said: list[str] = []
    test = run_range_test(config, phantom_set, out, low=1e-5, high=1.0, steps=30, say=said.append)
    return test, out, said


@pytest.mark.slow
def test_files_hold_the_test_and_nothing_of_the_network(found: tuple[RangeTest, Path, Any]) -> None:
    test, out, said = found
    assert {path.name for path in out.iterdir()} == {f"lr_range.{x}" for x in ("csv", "png", "svg")}
    with (out / "lr_range.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, len(test.losses) + 1))
    for name, values in (
        ("lr", test.rates),
        ("loss", test.losses),
        ("smoothed_loss", test.smoothed),
    ):
        np.testing.assert_allclose([float(row[name]) for row in rows], values, rtol=1e-5)
    np.testing.assert_allclose(test.rates[[0, 1]], [1e-5, 1e-5 * 1e5 ** (1 / 29)], rtol=1e-6)
    with Image.open(out / "lr_range.png") as image:
        assert image.size == (768, 576)
    assert any("step 10 of 30: rate" in line for line in said)


@pytest.mark.slow
def test_same_configuration_gives_the_same_test(
    found: tuple[RangeTest, Path, Any],
    config: Config,
    phantom_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # By the command this time; its fields are over the preset's.
    preset = config_file.to_json(replace(config, batch_size=16))
    (tmp_path / "mine.py").write_text(
        "import json\nfrom thyrojax.config import Config\n"
        f"config = Config(**json.loads({preset!r}))\n"
    )
    out = tmp_path / "out"
    options = ["--low", "1e-5", "--high", "1", "--steps", "30", "--batch-size", "8"]
    command = ["lr-range", str(tmp_path / "mine.py"), "--data", str(phantom_set), "--out", str(out)]
    assert main([*command, *options]) == 0
    assert (out / "lr_range.csv").read_bytes() == (found[1] / "lr_range.csv").read_bytes()
    lines = capsys.readouterr().out.splitlines()
    suggested = found[0].suggested
    assert lines[0] == f"lr={suggested:.1e}" if suggested else lines[0].startswith("no lr")
    assert lines[1] == str(out / "lr_range.png")


@pytest.mark.slow
def test_rates_matter_and_all_that_is_not_frozen_moves(
    found: tuple[RangeTest, Path, Any], config: Config, phantom_set: Path, tmp_path: Path
) -> None:
    frozen = replace(config, trunk_lr_scale=0.0, head_epochs=0.0)
    other = run_range_test(
        frozen, phantom_set, tmp_path, low=1e-5, high=1.0, steps=30, say=quietly
    ).losses
    together = found[0].losses
    # The same batches and the same start; only the trunk's own steps make the difference.
    assert other[0] == pytest.approx(together[0], rel=1e-5)
    assert abs(other[: len(together)] - together[: len(other)]).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"low": 0.0}, "--low: found 0.0, expected a number > 0"),
        ({"low": float("nan")}, "--low: found nan, expected a number > 0"),
        ({"high": 1e-6}, "--high: found 1e-06, expected a number > --low"),
        ({"steps": 9}, "--steps: found 9, expected a whole number >= 10"),
    ],
)
def test_ranges_that_are_none_are_refused(
    options: dict[str, Any], told: str, config: Config, tmp_path: Path
) -> None:
    arguments = {"low": 1e-6, "high": 1.0, "steps": 100, **options}
    with pytest.raises(ConfigError, match=told):
        run_range_test(config, tmp_path, tmp_path / "out", say=quietly, **arguments)
    assert not (tmp_path / "out").exists()


def test_file_for_a_folder_is_refused(
    phantom_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    command = ["lr-range", "quickstart", "--data", str(phantom_set), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [f"thyrojax: {tmp_path / 'out'}: found a file, expected a folder for the test"]
    assert (tmp_path / "out").read_text() == "mine"
