"""Augmentation: what each change does to a crop, and that host and device make the same of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from thyrojax.config import Config
from thyrojax.data import augment, draws
from thyrojax.data.crop import Window, crop_opencv, crop_turned
from thyrojax.data.dataset import Dataset
from thyrojax.data.stream import TrainFeed

OFF = Config(input_size=96, batch_size=8, margin_max=12, flip=False)
NONE = np.zeros((96, 96), bool)
CHANGES = {
    "speckle": 0.4,
    "blur": 2.0,
    "time_gain": 0.5,
    "gain": 0.3,
    "contrast": 0.3,
    "erase": 1.0,
}


def rows_of(config: Config, step: int = 0) -> list[draws.Draws]:
    drawn = draws.draw(
        np,
        config,
        50,
        step,
        np.arange(config.batch_size, dtype=np.int32),
        margin_low=np.zeros(50, np.int32),
        margin_high=np.zeros(50, np.int32),
        weights=draws.mixing_weights(config),
        seed=1,
    )
    return [{name: values[row] for name, values in drawn.items()} for row in range(8)]


def picture(size: int = 96) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(size, size))
    return (120 + 300 * ndimage.gaussian_filter(noise, 4)).clip(0, 255).astype(np.float32)


def changed(config: Config, image: np.ndarray, row: draws.Draws, box: np.ndarray = NONE) -> Any:
    return augment.change_crop(np, image, row, config, 1, box)


@pytest.mark.parametrize("names", [*((name,) for name in CHANGES), tuple(CHANGES)])
def test_host_and_device_change_a_crop_alike(names: tuple[str, ...]) -> None:
    config = dataclasses.replace(OFF, **{name: CHANGES[name] for name in names})
    image = picture()
    box = np.zeros((96, 96), bool)
    box[30:60, 20:70] = True
    on_device = jax.jit(
        lambda row: augment.change_crop(jnp, jnp.asarray(image), row, config, 1, box)
    )
    hosts = []
    for row in rows_of(config):
        host = changed(config, image, row, box)
        assert host.dtype == np.float32
        assert 0.0 <= host.min() <= host.max() <= 255.0
        hosts.append(host)
        np.testing.assert_allclose(on_device(row), host, atol=1e-3)
    # A draw may be next to nothing.
    assert sum(not np.array_equal(host, image) for host in hosts) >= 7


def test_speckle_has_its_mean_its_deviation_and_a_rayleigh_skewness() -> None:
    config = dataclasses.replace(OFF, speckle=0.3)
    flat = np.full((384, 384), 100.0, np.float32)
    for row in rows_of(config):
        row["speckle"] = np.float32(0.3)
        found = changed(config, flat, row)
        assert found.mean() == pytest.approx(100.0, abs=1.0)
        assert found.std() == pytest.approx(30.0, abs=1.5)
        grains = found[::2, ::2] - found.mean()
        skewness = float((grains**3).mean() / grains.std() ** 3)
        assert 0.2 < skewness < 0.8  # Rayleigh's 0.63, less for the mean of neighbouring grains
    first, second = (changed(config, flat, row) for row in rows_of(config)[:2])
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_blur_is_scipy_s_gaussian() -> None:
    config = dataclasses.replace(OFF, blur=2.0)
    image = picture()
    for row in rows_of(config):
        expected = ndimage.gaussian_filter(image, float(row["blur"]), mode="nearest", radius=6)
        np.testing.assert_allclose(changed(config, image, row), expected, atol=1e-3)


def test_time_gain_is_a_slope_about_the_middle_depth() -> None:
    config = dataclasses.replace(OFF, time_gain=0.5)
    flat = np.full((96, 96), 100.0, np.float32)
    for row in rows_of(config):
        found = changed(config, flat, row)
        assert np.ptp(found, axis=1).max() == 0.0
        slope = float(row["time_gain"])
        np.testing.assert_allclose(
            found[[0, -1], 0], 100 * (1 + slope * np.array([-1, 1]) * 95 / 96), rtol=1e-5
        )
        assert found.mean() == pytest.approx(100.0, rel=1e-5)


def test_erasing_spares_the_box() -> None:
    config = dataclasses.replace(OFF, erase=1.0)
    image = picture()
    box = np.zeros((96, 96), bool)
    box[20:76, 20:76] = True
    shares = []
    for step in range(20):
        for row in rows_of(config, step):
            different = changed(config, image, row, box) != image
            assert not different[box].any()
            shares.append((changed(config, image, row) != image).mean())
    assert min(shares) > 0.0
    assert 0.15 < max(shares) <= 0.21
    assert not (
        changed(dataclasses.replace(OFF, erase=1e-9), image, rows_of(OFF)[0]) != image
    ).any()


def test_a_crop_turned_by_nothing_is_the_upright_one() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (120, 150), np.uint8)
    row = {"rotation": np.float32(0.0), "zoom": np.float32(1.0)}
    window = Window(-7, 30, 61, 61)  # enlarged, so that bilinear needs no pixel beyond it but half
    columns, rows = augment.turned_positions(np, 61, 61, 96, row)
    turned = crop_turned(frame, window, columns, rows, "constant")
    upright = crop_opencv(frame, window, 96, "constant")
    np.testing.assert_allclose(turned[2:-2, 2:-2], upright[2:-2, 2:-2], atol=0.05)


def test_a_quarter_turn_of_forty_five_degrees_twice_is_ninety() -> None:
    """Positions against rotation matrices: clockwise as seen, about the window's centre."""
    row = {"rotation": np.float32(45.0), "zoom": np.float32(1.0)}
    columns, rows = augment.turned_positions(np, 101, 101, 101, row)
    assert (columns[50, 50], rows[50, 50]) == (50.0, 50.0)
    # The crop's right end shows what lies to the upper right of the centre: the picture has
    # turned clockwise.
    np.testing.assert_allclose(columns[50, 100] - 50, 50 * np.sqrt(0.5), atol=5e-4)
    np.testing.assert_allclose(rows[50, 100] - 50, -50 * np.sqrt(0.5), atol=5e-4)
    closer = augment.turned_positions(np, 101, 101, 101, {**row, "zoom": np.float32(2.0)})[0]
    np.testing.assert_allclose(closer[50, 100] - 50, 25 * np.sqrt(0.5), atol=5e-4)


def test_host_and_device_turn_alike() -> None:
    """To the bit, and close to what sine and cosine say."""
    row = {"rotation": np.float32(-13.0), "zoom": np.float32(1.125)}
    host = augment.turned_positions(np, 200, 90, 384, row)
    device = jax.jit(lambda row: augment.turned_positions(jnp, 200, 90, 384, row))(row)
    for one, other in zip(host, device, strict=True):
        np.testing.assert_array_equal(one, other)
    across, down = np.meshgrid(*(((np.arange(384) + 0.5) / 384 - 0.5) * x for x in (200, 90)))
    cosine, sine = (f(np.deg2rad(-13.0)) / 1.125 for f in (np.cos, np.sin))
    np.testing.assert_allclose(host[0], cosine * across + sine * down + 99.5, atol=2e-3)
    np.testing.assert_allclose(host[1], cosine * down - sine * across + 44.5, atol=2e-3)


def test_the_box_is_found_in_the_crop() -> None:
    inside = augment.box_in_upright_crop(np, 100, 100, 100, (20, 30, 60, 90))
    expected = np.zeros((100, 100), bool)
    expected[30:90, 20:60] = True
    np.testing.assert_array_equal(inside, expected)
    upright = {"rotation": np.float32(0.0), "zoom": np.float32(1.0)}
    turned = augment.turned_positions(np, 100, 100, 100, upright)
    inside = augment.box_in_turned_crop(*turned, (20, 30, 60, 90))
    np.testing.assert_array_equal(inside, expected)


def test_host_and_device_find_the_box_to_the_pixel() -> None:
    """Of 512 pixels' width shrunk to 384, every fourth falls on the border of two."""
    find = jax.jit(lambda width, edges: augment.box_in_upright_crop(jnp, width, width, 384, edges))
    for x_min in range(1, 256):
        edges = (x_min, 0, 512 - x_min, 512)
        host = augment.box_in_upright_crop(np, 512, 512, 384, edges)
        np.testing.assert_array_equal(find(512, edges), host)
        places = [(2 * i + 1) * 512 / 768 for i in range(384)]
        assert host[0].tolist() == [x_min <= place < 512 - x_min for place in places]


def mixed(config: Config, xp: Any) -> tuple[Any, Any, draws.Draws, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    images = rng.uniform(0, 255, (8, 32, 32, 1)).astype(np.float32)
    labels = np.arange(8, dtype=np.int32) % 2
    (drawn,) = [
        draws.draw(
            np,
            config,
            50,
            3,
            np.arange(8, dtype=np.int32),
            margin_low=np.zeros(50, np.int32),
            margin_high=np.zeros(50, np.int32),
            weights=draws.mixing_weights(config),
            seed=4,
        )
    ]
    partner = drawn["partner"]
    found, targets = augment.mix(
        xp, images, images[partner], labels, labels[partner], drawn, config
    )
    return np.asarray(found), np.asarray(targets), drawn, images, labels


@pytest.mark.parametrize(
    "options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}]
)
def test_mixing_is_the_same_on_both_and_targets_are_shares(options: dict[str, float]) -> None:
    config = dataclasses.replace(OFF, **options)
    found, targets, drawn, images, labels = mixed(config, np)
    again = mixed(config, jnp)
    np.testing.assert_allclose(found, again[0], atol=1e-3)
    np.testing.assert_allclose(targets, again[1], atol=1e-6)
    for row in range(8):
        partner = drawn["partner"][row]
        if drawn["cut"][row]:
            pasted = (found[row] == images[partner]).mean()
            assert ((found[row] == images[row]) | (found[row] == images[partner])).all()
            weight = pasted
        else:
            weight = float(drawn["mix"][row])
            blend = (1 - weight) * images[row] + weight * images[partner]
            np.testing.assert_allclose(found[row], blend, atol=1e-3)
        expected = (1 - weight) * labels[row] + weight * labels[partner]
        assert targets[row] == pytest.approx(expected, abs=1e-5)


def test_the_feed_mixes_across_the_rows_that_a_process_cuts(small_set: Dataset) -> None:
    config = dataclasses.replace(OFF, mixup=0.5, cutmix=0.5, rotation=10.0, zoom=0.1, erase=0.5)
    feed = TrainFeed(small_set, np.arange(20, dtype=np.int32), config)
    whole = feed.batch(5, 1)
    assert set(whole) == {"image", "label", "index", "margin", "target"}
    assert ((whole["target"] > 0) & (whole["target"] < 1)).any()
    for rows in (slice(0, 3), slice(3, 8)):
        part = feed.batch(5, 1, rows)
        for name, values in part.items():
            np.testing.assert_array_equal(values, whole[name][rows])
