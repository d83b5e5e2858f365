"""Draws of batches: pure in (seed, step), equal on host and device, with the stated ranges."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thyrojax.config import Config
from thyrojax.data import draws
from thyrojax.data.dataset import open_dataset
from thyrojax.errors import DataError

EVERYTHING = Config(
    batch_size=16,
    margin_min=5,
    margin_max=25,
    vertical_flip=True,
    gain=0.2,
    contrast=0.3,
    time_gain=0.25,
    rotation=10.0,
    zoom=0.1,
    speckle=0.3,
    blur=1.5,
    erase=0.5,
    mixup=0.2,
    cutmix=1.0,
)
COUNT = 100


def drawn(config: Config, step: int, rows: np.ndarray | None = None, seed: int = 3) -> draws.Draws:
    rows = np.arange(config.batch_size, dtype=np.int32) if rows is None else rows
    return draws.draw(np, config, COUNT, step, rows, seed=seed, **tables(config))


def tables(config: Config) -> dict[str, Any]:
    return {
        "margin_low": np.full(COUNT, config.margin_min, np.int32),
        "margin_high": np.full(COUNT, config.margin_max, np.int32),
        "weights": draws.mixing_weights(config),
    }


def many(config: Config, name: str) -> np.ndarray:
    return np.concatenate([drawn(config, step)[name] for step in range(200)])


def test_host_and_device_draw_the_same() -> None:
    rows = np.arange(16, dtype=np.int32)
    on_device = jax.jit(
        lambda step: draws.draw(
            jnp,
            EVERYTHING,
            COUNT,
            step,
            rows,
            seed=3,
            **jax.tree.map(jnp.asarray, tables(EVERYTHING)),
        )
    )
    for step in (0, 6, 12_345):
        host, device = drawn(EVERYTHING, step), on_device(step)
        assert host.keys() == device.keys()
        for name, values in host.items():
            assert values.dtype == device[name].dtype
            np.testing.assert_allclose(values, device[name], rtol=3e-7, atol=1e-6, err_msg=name)
            if values.dtype.kind in "iub":
                np.testing.assert_array_equal(values, device[name])


def test_a_row_is_the_same_alone_and_in_its_batch() -> None:
    whole = drawn(EVERYTHING, 9)
    part = drawn(EVERYTHING, 9, np.array([3, 11], np.int32))
    for name, values in part.items():
        np.testing.assert_array_equal(values, whole[name][[3, 11]])


def test_an_epoch_has_every_position_once_whatever_the_batch() -> None:
    for batch_size in (1, 16, 33):
        config = dataclasses.replace(EVERYTHING, batch_size=batch_size)
        steps = -(-COUNT // batch_size)
        positions = np.concatenate([drawn(config, step)["position"] for step in range(steps)])
        assert sorted(positions[:COUNT].tolist()) == list(range(COUNT))


def test_switching_one_augmentation_off_leaves_the_others_as_they_were() -> None:
    before = drawn(EVERYTHING, 2)
    for name in ("gain", "rotation", "blur", "speckle", "mixup"):
        after = drawn(dataclasses.replace(EVERYTHING, **{name: 0.0}), 2)
        for kept in {"margin", "flip", "contrast", "zoom", "time_gain", "erase_x", "partner"}:
            np.testing.assert_array_equal(before[kept], after[kept])


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("margin", 5, 25),
        ("gain", 0.8, 1.2),
        ("contrast", 0.7, 1.3),
        ("time_gain", -0.25, 0.25),
        ("rotation", -10, 10),
        ("zoom", 0.9, 1.1),
        ("speckle", 0, 0.3),
        ("blur", 0, 1.5),
        ("mix", 0, 1),
    ],
)
def test_draws_fill_their_range(name: str, low: float, high: float) -> None:
    values = many(EVERYTHING, name).astype(float)
    assert low <= values.min() + 1e-6
    assert values.max() - 1e-6 <= high
    width = high - low
    assert values.min() < low + 0.02 * width
    assert values.max() > high - 0.02 * width
    assert values.mean() == pytest.approx((low + high) / 2, abs=0.04 * width)


def test_mixing_weights_follow_the_beta_distribution() -> None:
    from scipy.stats import beta, kstest

    for config, alpha in (
        (dataclasses.replace(EVERYTHING, cutmix=0.0, mixup=0.4), 0.4),
        (dataclasses.replace(EVERYTHING, cutmix=1.0, mixup=0.0), 1.0),
    ):
        assert kstest(many(config, "mix"), beta(alpha, alpha).cdf).pvalue > 1e-3
        assert many(config, "cut").all() == (config.cutmix > 0)
    assert 0.45 < many(EVERYTHING, "cut").mean() < 0.55


def test_nothing_is_mixed_unless_asked_for() -> None:
    assert not many(Config(batch_size=16), "mix").any()


def test_no_row_is_its_own_partner_and_each_is_one() -> None:
    for step in range(50):
        partner = drawn(EVERYTHING, step)["partner"]
        assert sorted(partner.tolist()) == list(range(16))
        assert (partner != np.arange(16)).all()


def test_margins_in_millimetres_follow_each_record_s_spacing(phantom_set: Path) -> None:
    phantom = open_dataset(phantom_set)
    config = Config(margin_unit="mm", margin_min=0, margin_max=10, margin_eval=5)
    low, high = draws.margin_bounds(config, phantom.records)
    spacing = np.array([record.pixel_spacing_mm for record in phantom.records], np.float64)
    assert not low.any()
    np.testing.assert_allclose(high * spacing, 10.0, atol=spacing.max())
    assert len(set(high.tolist())) > 1


def test_margins_in_millimetres_need_a_spacing(phantom_set: Path) -> None:
    phantom = open_dataset(phantom_set)
    record = dataclasses.replace(phantom.records[0], pixel_spacing_mm=None)
    with pytest.raises(DataError, match=rf"{record.image_id}: found no pixel spacing"):
        draws.margin_bounds(Config(margin_unit="mm"), [record])
