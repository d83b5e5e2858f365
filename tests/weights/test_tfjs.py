"""TensorFlow.js: layers models by Keras' names, graph models by their graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfjs_writer as writer
from thyrojax.weights import names, read
from thyrojax.weights.formats import tfjs
from thyrojax.weights.types import Arrays, Request

SMALL = Request(depth_multiplier=0.05)


@pytest.fixture(scope="module")
def arrays(new_arrays: Callable[..., Arrays]) -> Arrays:
    return new_arrays(0.05, classes=5)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, arrays: Arrays) -> Path:
    """The folder of a plain model."""
    return writer.write_model(tmp_path_factory.mktemp("plain"), writer.as_keras(arrays)).parent


def assert_same(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for path, values in expected.items():
        np.testing.assert_array_equal(found[path], values, err_msg=path)
        assert found[path].dtype == np.float32


def test_every_bit_of_a_plain_model_is_read(plain: Path, arrays: Arrays) -> None:
    """Weights lie across the shards' ends. The folder is as good as the file."""
    for path in (plain / "model.json", plain):
        weights = read(path, depth_multiplier=0.05)
        assert weights.format == "tfjs"
        assert_same(dict(weights.arrays), arrays)
        assert not weights.ignored
        assert not weights.notes
        assert (weights.variant.pooling, weights.variant.last_pool) == ("valid", "average")


@pytest.mark.parametrize(
    "options",
    [
        {"first": 188},
        {"first": 7, "prefix": "sequential/inception_v3/"},
        {"scales": True},
    ],
)
def test_names_and_numbers_do_not_matter(
    tmp_path: Path, arrays: Arrays, options: dict[str, Any]
) -> None:
    path = writer.write_model(tmp_path / "model", writer.as_keras(arrays, **options), n_groups=3)
    assert_same(tfjs.read(path, SMALL).arrays, arrays)


def test_quantised_weights_are_within_half_a_step(tmp_path: Path, arrays: Arrays) -> None:
    for kind, bits in (("uint8", 8), ("uint16", 16)):
        path = writer.write_model(tmp_path / kind, writer.as_keras(arrays), kind)
        reading = tfjs.read(path, SMALL)
        for name, values in arrays.items():
            step = float(values.max() - values.min()) / (2**bits - 1)
            error = np.abs(reading.arrays[name].astype(np.float64) - values).max()
            assert error <= step / 2 + 1e-6 * np.abs(values).max(), name
        assert reading.notes == (f"weights are quantised to {bits} bits, values are approximate",)


def test_quantised_values_are_number_times_scale_plus_least(tmp_path: Path, arrays: Arrays) -> None:
    weights = writer.as_keras(arrays)
    path = writer.write_model(tmp_path / "model", weights, "uint8")
    stored, quantisation = writer.quantise(weights["conv2d/kernel"], "uint8")
    exact = stored.astype(np.float64) * quantisation["scale"] + quantisation["min"]
    found = tfjs.read(path, SMALL).arrays[names.FIRST_KERNEL]
    np.testing.assert_array_equal(found, exact.astype(np.float32))


def test_half_precision(tmp_path: Path, arrays: Arrays) -> None:
    reading = tfjs.read(
        writer.write_model(tmp_path / "model", writer.as_keras(arrays), "float16"), SMALL
    )
    for name, values in arrays.items():
        np.testing.assert_array_equal(reading.arrays[name], values.astype(np.float16))
    assert reading.notes == ("weights are stored in float16, values are rounded to it",)


def test_grey_images(tmp_path: Path, new_arrays: Callable[..., Arrays]) -> None:
    grey = new_arrays(0.05, channels=1)
    assert_same(
        tfjs.read(writer.write_model(tmp_path / "model", writer.as_keras(grey)), SMALL).arrays, grey
    )


def test_what_stands_on_top_is_named(tmp_path: Path, arrays: Arrays) -> None:
    weights = writer.as_keras(arrays)
    more = {
        "dense_7/kernel": np.ones((5, 2), np.float32),
        "dense_7/bias": np.ones(2, np.float32),
        "seed_generator/state": np.ones(2, np.int32),
    }
    reading = tfjs.read(writer.write_model(tmp_path / "model", weights | more), SMALL)
    assert names.HEAD_BIAS not in reading.arrays
    assert reading.ignored == {
        **dict.fromkeys(["predictions/kernel", "predictions/bias"], "foreign head: dense layer"),
        **dict.fromkeys(["dense_7/kernel", "dense_7/bias"], "foreign head: dense layer"),
        "seed_generator/state": "not a weight: int32",
    }


def test_head_that_is_not_asked_for(plain: Path) -> None:
    reading = tfjs.read(plain, Request("drop", 0.05))
    assert names.HEAD_BIAS not in reading.arrays
    assert set(reading.ignored) == {"predictions/kernel", "predictions/bias"}


def test_optimizer_slots_are_named(tmp_path: Path, arrays: Arrays) -> None:
    path = writer.write_model(
        tmp_path / "model", writer.as_keras(arrays) | {"conv2d/kernel/m": np.ones(3, np.float32)}
    )
    model = json.loads(path.read_text())
    model["weightsManifest"][0]["weights"][-1]["group"] = "optimizer"
    path.write_text(json.dumps(model))
    assert tfjs.read(path, SMALL).ignored == {"conv2d/kernel/m": "optimizer slot"}


@pytest.mark.parametrize("wrapped", [True, False])
def test_topology_tells_the_variant(tmp_path: Path, arrays: Arrays, wrapped: bool) -> None:
    """Keras' converter wraps the model; TensorFlow.js itself does not."""
    described = writer.topology(pool="MaxPooling2D")
    described = {"model_config": described, "backend": "tensorflow"} if wrapped else described
    path = writer.write_model(tmp_path / "model", writer.as_keras(arrays), topology=described)
    reading = tfjs.read(path, SMALL)
    assert reading.variant.epsilon == 0.01
    assert reading.variant.last_pool == "max"
    assert reading.variant.preprocessing == "x/255"


@pytest.mark.parametrize("fused", [True, False])
def test_graph_model_is_found_by_its_graph(tmp_path: Path, arrays: Arrays, fused: bool) -> None:
    graph, weights = writer.graph_model(arrays, fused)
    path = writer.write_model(
        tmp_path / "model", weights, topology=graph, more={"format": "graph-model"}
    )
    reading = tfjs.read(path, SMALL)
    for name, values in arrays.items():
        if name.endswith(("kernel", "bias")):
            np.testing.assert_array_equal(reading.arrays[name], values, err_msg=name)
        elif name.endswith("/bn/var"):
            assert (np.sqrt(reading.arrays[name] + np.float32(1e-3)) == 1).all()
    assert reading.ignored == {
        "axis": "not a weight: setting of ConcatV2",
        "axes": "not a weight: setting of Mean",
    }
    assert any("softmax" in note for note in reading.notes)
