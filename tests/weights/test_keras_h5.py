"""Keras' legacy .h5 as it is found: every key is used or named as ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from thyrojax.weights import Weights, names, read

Change = Callable[[Callable[[h5py.File], None]], Path]
New = Callable[..., Path]


def assert_trunk_in_creation_order(weights: Weights) -> None:
    """Unit i holds i + 0.1 and so on, as the fixtures write it."""
    for i, unit in enumerate(names.UNITS):
        params, statistics = weights.params, weights.batch_stats
        for level in unit.path.split("/"):
            params, statistics = params[level], statistics[level]
        found = [
            params["conv"]["kernel"],
            params["bn"]["bias"],
            statistics["bn"]["mean"],
            statistics["bn"]["var"],
        ]
        assert found[0].shape == (unit.height, unit.width, unit.inputs, unit.outputs)
        assert all(array.dtype == np.float32 for array in found)
        np.testing.assert_allclose([a.flat[0] for a in found], i + np.arange(1, 5) / 10, rtol=1e-6)


def test_weights_at_the_root_fill_the_trunk(plain_file: Path) -> None:
    weights = read(plain_file)
    assert_trunk_in_creation_order(weights)
    assert weights.format == "keras-h5"
    assert weights.variant.pooling == "valid"
    assert weights.variant.epsilon == 1e-3
    assert weights.variant.preprocessing == "x/127.5-1"
    assert len(weights.used) == 94 * 4
    assert not weights.ignored
    assert "fc" not in weights.params


def test_scales_that_the_file_leaves_out_are_one(plain_file: Path) -> None:
    scale = read(plain_file).params["Mixed_7c"]["branch_pool"]["bn"]["scale"]
    np.testing.assert_array_equal(scale, np.ones(192, np.float32))


def test_scales_that_the_file_has_are_used(new_file: New) -> None:
    weights = read(new_file(scale=True))
    scale = weights.params["Conv2d_2a_3x3"]["bn"]["scale"]
    np.testing.assert_array_equal(scale, np.full(32, 1.5, np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {"first_conv": 188, "first_bn": 188, "group": "model_weights"},
        {"first_conv": 5, "first_bn": 1000, "repeat": False},
        {"first_conv": 1, "first_bn": 1, "suffix": ":0"},
        {"group": "model_weights/inception_v3", "repeat": False, "first_conv": 94},
        {"group": "inception_v3", "suffix": ":0"},
    ],
)
def test_layout_and_numbering_do_not_matter(new_file: New, options: dict[str, object]) -> None:
    assert_trunk_in_creation_order(read(new_file(**options)))


def test_what_stands_on_top_is_ignored_by_name(new_file: New) -> None:
    path = new_file(group="model_weights", first_conv=3, first_bn=3)
    with h5py.File(path, "r+") as file:
        layers = file["model_weights"]
        trunk = list(layers)
        layers.create_dataset("dense_3/dense_3/kernel", (2048, 256), "f4")
        layers.create_dataset("dense_3/dense_3/bias", (256,), "f4")
        layers.create_dataset("batch_normalization_97/gamma", (256,), "f4")
        layers.create_dataset("batch_normalization_1/beta", (2048,), "f4")  # created before
        layers.create_dataset("prelu/alpha", (256,), "f4")
        layers.create_group("dropout_2")
        tops = ["dense_3", "batch_normalization_97", "batch_normalization_1", "prelu", "dropout_2"]
        layers.attrs["layer_names"] = [*trunk, *tops]
        file.create_dataset("optimizer_weights/adam/iteration", data=7)
    weights = read(path)
    assert_trunk_in_creation_order(weights)
    assert weights.ignored == {
        "model_weights/dense_3/dense_3/kernel": "foreign head: dense layer",
        "model_weights/dense_3/dense_3/bias": "foreign head: dense layer",
        "model_weights/batch_normalization_97/gamma": "foreign head: layer after the trunk",
        "model_weights/batch_normalization_1/beta": "foreign head: layer after the trunk",
        "model_weights/prelu/alpha": "foreign head: layer after the trunk",
        "model_weights/dropout_2": "no parameters",
        "optimizer_weights/adam/iteration": "optimizer slot",
    }


def test_layers_on_top_may_have_names_of_the_trunks(new_file: New) -> None:
    """As where a network is loaded from a file, keeping its names, and put into a new model."""
    path = new_file(group="model_weights/inception_v3", repeat=False)
    with h5py.File(path, "r+") as file:
        layers = file["model_weights"]
        layers.create_dataset("batch_normalization/gamma", (2048,), "f4")
        layers.create_dataset("batch_normalization_7/beta", (2048,), "f4")
        tops = ["batch_normalization", "batch_normalization_7"]
        layers.attrs["layer_names"] = ["inception_v3", *tops]
    weights = read(path)
    assert_trunk_in_creation_order(weights)
    assert set(weights.ignored.values()) == {"foreign head: layer after the trunk"}


def test_long_layer_lists_are_split_over_attributes(changed: Change) -> None:
    def change(file: h5py.File) -> None:
        layers = list(file)
        file["prelu/alpha"] = np.ones(3, np.float32)
        for i in range(12):
            file.attrs[f"layer_names{i}"] = np.array(layers[i::12], "S")
        file.attrs["layer_names12"] = np.array(["prelu"], "S")

    assert read(changed(change)).ignored == {"prelu/alpha": "foreign head: layer after the trunk"}


def add_classifier(file: h5py.File) -> None:
    file.create_dataset("predictions/predictions/kernel:0", (2048, 5), "f4", fillvalue=0.25)
    file.create_dataset("predictions/predictions/bias:0", (5,), "f4", fillvalue=0.5)


def test_classifier_is_kept_unless_it_is_to_be_dropped(changed: Change) -> None:
    path = changed(add_classifier)
    assert set(read(path, head="drop").ignored.values()) == {"classifier: not asked for"}
    weights = read(path)
    assert not weights.ignored
    np.testing.assert_array_equal(weights.params["fc"]["kernel"], np.full((2048, 5), 0.25, "f4"))
    np.testing.assert_array_equal(weights.params["fc"]["bias"], np.full(5, 0.5, "f4"))


def test_another_networks_head_is_ignored_by_name(changed: Change) -> None:
    def change(file: h5py.File) -> None:
        add_classifier(file)
        file["dense/kernel"] = np.ones((5, 2), np.float32)

    weights = read(changed(change))
    assert weights.classes == 0
    assert weights.ignored == dict.fromkeys(
        ["dense/kernel", *(f"predictions/predictions/{name}:0" for name in ("bias", "kernel"))],
        "foreign head: dense layer",
    )


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4"])
def test_floats_of_any_size_and_order_are_read(changed: Change, dtype: str) -> None:
    values = np.linspace(-2, 2, 3 * 3 * 3 * 32).reshape(3, 3, 3, 32).astype(dtype)

    def change(file: h5py.File) -> None:
        del file["conv2d/conv2d/kernel:0"]
        file["conv2d/conv2d/kernel:0"] = values

    kernel = read(changed(change)).params["Conv2d_1a_3x3"]["conv"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, values.astype(np.float32))


def test_compressed_arrays_are_read(changed: Change) -> None:
    values = np.arange(3 * 3 * 3 * 32, dtype=np.float32).reshape(3, 3, 3, 32)

    def change(file: h5py.File) -> None:
        del file["conv2d/conv2d/kernel:0"]
        file.create_dataset(
            "conv2d/conv2d/kernel:0", data=values, compression="gzip", shuffle=True, fletcher32=True
        )

    kernel = read(changed(change)).params["Conv2d_1a_3x3"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, values)


def test_real_file_is_accounted_for(shared: Path) -> None:
    weights = read(shared / "weights" / "keras" / "inceptionv3_v1.h5")
    assert weights.sha256 == "476acc2af18c583071993b5c426d465ca31637a4540eb5c16297670d20f25125"
    assert len(weights.used) == 94 * 4
    ignored: dict[str, list[str]] = {}
    for key, reason in weights.ignored.items():
        ignored.setdefault(reason, []).append(key)
    assert sorted(ignored["foreign head: dense layer"]) == [
        f"model_weights/dense_{i}/dense_{i}/{array}" for i in (3, 4) for array in ("bias", "kernel")
    ]
    assert len(ignored["optimizer slot"]) == 10  # two counters, and two moments of each of those
    assert (
        len(ignored["no parameters"]) == 126
    )  # 94 ReLUs, 13 pools, 15 joins and the input among them
    with h5py.File(shared / "weights" / "keras" / "inceptionv3_v1.h5") as file:
        groups = len(file["model_weights"]) - 2 * 94 - 2  # without convolutions, BatchNorms, dense
    assert groups == len(ignored["no parameters"])
