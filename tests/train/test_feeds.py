"""Training from either feed: the same run to rounding, however many steps a dispatch takes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import pytest

from thyrojax.config import Config
from thyrojax.data.dataset import open_dataset
from thyrojax.errors import ConfigError, DataError
from thyrojax.evaluate import evaluate, open_trained, predict
from thyrojax.train.loop import train


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def trained(config: Config, data: Path, run: Path) -> list[str]:
    said: list[str] = []
    train(config, data, run, quiet=True, say=said.append)
    return said


def assert_close(run: Path, other: Path) -> None:
    """Losses, validations and variables of two runs, up to the rounding of crops and sums."""
    one, two = (lines_of(folder) for folder in (run, other))
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for mine, theirs in zip(one, two, strict=True):
        for name in set(mine) & {"loss", "gradient_norm", "val_loss"}:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-5), (mine["step"], name)
    ours, others = (open_trained(folder, "latest").variables for folder in (run, other))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), ours, others)


@pytest.fixture(scope="module")
def plain_config(small_config: Config) -> Config:
    """A run in which rounding stays rounding.

    Adam's first steps turn a gradient's rounding into steps of full size, and batch statistics of
    a few nearly equal activations enlarge it a thousandfold.
    """
    return replace(
        small_config,
        optimizer="sgd",
        lr=1e-2,
        freeze_bn=True,
        log_every=4,
        gain=0.2,
        erase=0.5,
        mixup=0.3,
        cutmix=1.0,
    )


@pytest.fixture(scope="module")
def streamed(
    plain_config: Config, phantom_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    run = tmp_path_factory.mktemp("runs") / "streamed"
    assert "stream feed: at most" in trained(plain_config, phantom_set, run)[1]
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mapping", "steps", "accumulate"), [("pmap", 4, 1), ("shard_map", 2, 1), ("pmap", 2, 2)]
)
def test_resident_training_is_streamed_training(
    plain_config: Config,
    phantom_set: Path,
    streamed: Path,
    tmp_path: Path,
    mapping: Any,
    steps: int,
    accumulate: int,
) -> None:
    config = replace(
        plain_config,
        feed="resident",
        mapping=mapping,
        steps_per_dispatch=steps,
        accumulate=accumulate,
    )
    said = trained(config, phantom_set, tmp_path / "run")
    assert "frames whole on each of 8 devices" in said[1]
    assert_close(tmp_path / "run", streamed)


@pytest.mark.slow
def test_a_run_with_margins_in_millimetres_is_evaluated_so(
    small_run: Path, phantom_set: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    written = json.loads((run / "config.json").read_text())
    written |= {"margin_unit": "mm", "margin_max": 8, "margin_eval": 4}
    (run / "config.json").write_text(json.dumps(written))
    evaluate(run, phantom_set, "test")
    dataset = open_dataset(phantom_set)
    record, frame = dataset.records[0], tmp_path / "frame.png"
    box = tuple(map(float, record.box))
    cv2.imwrite(str(frame), dataset.frame(0))
    with pytest.raises(DataError, match="--pixel-spacing: found None"):
        predict(run, frame, box)
    found = predict(run, frame, box, "best", record.pixel_spacing_mm)
    assert record.pixel_spacing_mm
    assert found["margin"] == round(4 / record.pixel_spacing_mm)
    assert found["window"][2] == record.box.width + 2 * found["margin"]


@pytest.mark.slow
@pytest.mark.parametrize("feed", ["stream", "resident"])
def test_skipped_records_are_named_in_the_metrics(
    plain_config: Config, phantom_set: Path, tmp_path: Path, feed: Any
) -> None:
    data = tmp_path / "set"
    shutil.copytree(phantom_set, data)
    (shard,) = data.glob("*.array_record*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255  # one record's frame
    shard.write_bytes(content)
    config = replace(plain_config, feed=feed, steps=6, test_fraction=0.1, validation_fraction=0.1)
    with pytest.raises(DataError, match=r"record \d+ \(P\d+-\d\)"):
        trained(config, data, tmp_path / "stopped")
    # Of fewer than 100 training records, one is more than 1 %.
    with pytest.raises(DataError, match=r"1 %|1%"):
        trained(replace(config, on_bad_record="skip"), data, tmp_path / "skipped")


def test_several_steps_per_dispatch_need_the_resident_feed() -> None:
    with pytest.raises(
        ConfigError, match="steps_per_dispatch: found 4, expected 1 with the stream"
    ):
        Config(steps_per_dispatch=4)


def test_more_images_than_can_be_numbered_are_refused(
    small_config: Config, phantom_set: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"steps: found 300000000 of 16 images"):
        trained(replace(small_config, steps=300_000_000), phantom_set, tmp_path / "run")
