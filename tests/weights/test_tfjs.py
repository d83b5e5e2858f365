"""TensorFlow.js: layers models by Keras' names, graph models by their graph."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thyrojax.errors import WeightsError
from thyrojax.weights import names, read
from thyrojax.weights.formats import tfjs
from thyrojax.weights.graph import BLOCKS, STEM, Branch, Conv, Fork
from thyrojax.weights.types import Arrays, Request

SMALL = Request(depth_multiplier=0.05)
UNITS = SMALL.trunk.units
Weights = dict[str, np.ndarray]
Json = dict[str, Any]

# Keras' name of an array, by ours.
ARRAYS = {
    "params/{}/conv/kernel": "conv2d{}/kernel",
    "params/{}/bn/bias": "batch_normalization{}/beta",
    "batch_stats/{}/bn/mean": "batch_normalization{}/moving_mean",
    "batch_stats/{}/bn/var": "batch_normalization{}/moving_variance",
}


def as_keras(arrays: Arrays, first: int = 0, prefix: str = "", scales: bool = False) -> Weights:
    """Arrays of ours under Keras' names, the first layer with number `first`."""
    pairs = ARRAYS | ({"params/{}/bn/scale": "batch_normalization{}/gamma"} if scales else {})
    weights = {}
    for i, unit in enumerate(UNITS, start=first):
        for ours, theirs in pairs.items():
            number = f"_{i}" if i else ""
            weights[prefix + theirs.format(number)] = arrays[ours.format(unit.path)]
    if names.HEAD_BIAS in arrays:
        weights["predictions/kernel"] = arrays[names.HEAD_KERNEL]
        weights["predictions/bias"] = arrays[names.HEAD_BIAS]
    return weights


def quantise(values: np.ndarray, kind: str) -> tuple[np.ndarray, Json]:
    """As TensorFlow.js' own writer does: the range of the values over all numbers of the type."""
    if kind == "float16":
        return values.astype(np.float16), {"dtype": "float16", "original_dtype": "float32"}
    low, high = float(values.min()), float(values.max())
    scale = (high - low) / np.iinfo(kind).max or 1.0
    numbers = np.round((values.astype(np.float64) - low) / scale).astype(kind)
    return numbers, {"dtype": kind, "min": low, "scale": scale, "original_dtype": "float32"}


def write_model(
    folder: Path,
    weights: Weights,
    kind: str = "float32",
    topology: Json | None = None,
    n_groups: int = 1,
    shard_bytes: int = 100_000,
    more: Json | None = None,
) -> Path:
    """A model.json with shards beside it."""
    folder.mkdir(exist_ok=True)
    manifest = []
    parts = [dict(list(weights.items())[i::n_groups]) for i in range(n_groups)]
    for g, part in enumerate(parts, start=1):
        entries, content = [], b""
        for name, values in part.items():
            entry: Json = {"name": name, "shape": list(values.shape), "dtype": str(values.dtype)}
            stored = values
            if values.dtype == np.float32 and kind != "float32":
                stored, entry["quantization"] = quantise(values, kind)
            entries.append(entry)
            content += stored.tobytes()
        n = -(-len(content) // shard_bytes)
        paths = [f"group{g}-shard{i + 1}of{n}.bin" for i in range(n)]
        for i, path in enumerate(paths):
            (folder / path).write_bytes(content[i * shard_bytes : (i + 1) * shard_bytes])
        manifest.append({"paths": paths, "weights": entries})
    model = {
        "format": "layers-model",
        "generatedBy": "keras v2.15.0",
        "modelTopology": topology or {},
        "weightsManifest": manifest,
    }
    path = folder / "model.json"
    path.write_text(json.dumps(model | (more or {})))
    return path


@pytest.fixture(scope="module")
def arrays(new_arrays: Callable[..., Arrays]) -> Arrays:
    return new_arrays(0.05, classes=5)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, arrays: Arrays) -> Path:
    """The folder of a plain model."""
    return write_model(tmp_path_factory.mktemp("plain"), as_keras(arrays)).parent


@pytest.fixture
def changed(plain: Path, tmp_path: Path) -> Callable[[Callable[[Json], None]], Path]:
    """Copies `plain` and lets a function change its JSON."""

    def change(function: Callable[[Json], None]) -> Path:
        shutil.copytree(plain, tmp_path / "changed")
        path = tmp_path / "changed" / "model.json"
        model = json.loads(path.read_text())
        function(model)
        path.write_text(json.dumps(model))
        return path

    return change


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
    path = write_model(tmp_path / "model", as_keras(arrays, **options), n_groups=3)
    assert_same(tfjs.read(path, SMALL).arrays, arrays)


def test_quantised_weights_are_within_half_a_step(tmp_path: Path, arrays: Arrays) -> None:
    for kind, bits in (("uint8", 8), ("uint16", 16)):
        path = write_model(tmp_path / kind, as_keras(arrays), kind)
        reading = tfjs.read(path, SMALL)
        for name, values in arrays.items():
            step = float(values.max() - values.min()) / (2**bits - 1)
            error = np.abs(reading.arrays[name].astype(np.float64) - values).max()
            assert error <= step / 2 + 1e-6 * np.abs(values).max(), name
        assert reading.notes == (f"weights are quantised to {bits} bits, values are approximate",)


def test_quantised_values_are_number_times_scale_plus_least(tmp_path: Path, arrays: Arrays) -> None:
    weights = as_keras(arrays)
    path = write_model(tmp_path / "model", weights, "uint8")
    stored, quantisation = quantise(weights["conv2d/kernel"], "uint8")
    exact = stored.astype(np.float64) * quantisation["scale"] + quantisation["min"]
    found = tfjs.read(path, SMALL).arrays[names.FIRST_KERNEL]
    np.testing.assert_array_equal(found, exact.astype(np.float32))


def test_half_precision(tmp_path: Path, arrays: Arrays) -> None:
    reading = tfjs.read(write_model(tmp_path / "model", as_keras(arrays), "float16"), SMALL)
    for name, values in arrays.items():
        np.testing.assert_array_equal(reading.arrays[name], values.astype(np.float16))
    assert reading.notes == ("weights are stored in float16, values are rounded to it",)


def test_grey_images(tmp_path: Path, new_arrays: Callable[..., Arrays]) -> None:
    grey = new_arrays(0.05, channels=1)
    assert_same(tfjs.read(write_model(tmp_path / "model", as_keras(grey)), SMALL).arrays, grey)


def test_what_stands_on_top_is_named(tmp_path: Path, arrays: Arrays) -> None:
    weights = as_keras(arrays)
    more = {
        "dense_7/kernel": np.ones((5, 2), np.float32),
        "dense_7/bias": np.ones(2, np.float32),
        "seed_generator/state": np.ones(2, np.int32),
    }
    reading = tfjs.read(write_model(tmp_path / "model", weights | more), SMALL)
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
    path = write_model(
        tmp_path / "model", as_keras(arrays) | {"conv2d/kernel/m": np.ones(3, np.float32)}
    )
    model = json.loads(path.read_text())
    model["weightsManifest"][0]["weights"][-1]["group"] = "optimizer"
    path.write_text(json.dumps(model))
    assert tfjs.read(path, SMALL).ignored == {"conv2d/kernel/m": "optimizer slot"}


def topology(epsilon: float = 0.01, pool: str = "AveragePooling2D") -> Json:
    """A Keras model's description, of those layers that matter."""
    layers = [{"class_name": "Rescaling", "config": {"name": "rescaling", "scale": 1 / 127.5}}]
    for i in range(94):
        number = f"_{i}" if i else ""
        settings = {"name": f"batch_normalization{number}", "epsilon": epsilon, "scale": False}
        layers.append({"class_name": "BatchNormalization", "config": settings})
    for i in range(9):
        kind = pool if i == 8 else "AveragePooling2D"
        settings = {"name": f"pool_{i}", "padding": "same", "strides": [1, 1], "pool_size": [3, 3]}
        layers.append({"class_name": kind, "config": settings})
    layers += [
        {"class_name": "GlobalAveragePooling2D", "config": {"name": "avg_pool"}},
        {"class_name": "Dense", "config": {"name": "predictions"}},
    ]
    return {"class_name": "Functional", "config": {"layers": layers}}


@pytest.mark.parametrize("wrapped", [True, False])
def test_topology_tells_the_variant(tmp_path: Path, arrays: Arrays, wrapped: bool) -> None:
    """Keras' converter wraps the model; TensorFlow.js itself does not."""
    described = topology(pool="MaxPooling2D")
    described = {"model_config": described, "backend": "tensorflow"} if wrapped else described
    path = write_model(tmp_path / "model", as_keras(arrays), topology=described)
    reading = tfjs.read(path, SMALL)
    assert reading.variant.epsilon == 0.01
    assert reading.variant.last_pool == "max"
    assert reading.notes == ("input: the model has a Rescaling layer, which is left out",)


# Graph models: nodes as the protocol buffer's JSON has them.


def text(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def plane(*values: int) -> Json:
    return {"list": {"i": [str(value) for value in values]}}


def graph_model(arrays: Arrays, fused: bool = True) -> tuple[Json, Weights]:
    """Topology and weights of a graph; kernels and biases are those of `arrays`, no BatchNorm."""
    nodes: list[Json] = [{"name": "image", "op": "Placeholder"}]
    weights: Weights = {}

    def constant(name: str, values: np.ndarray) -> str:
        weights[name] = values
        nodes.append({"name": name, "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}}})
        return name

    def add(op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"node_{len(nodes)}"
        nodes.append({"name": name, "op": op, "input": inputs, "attr": attributes})
        return name

    def unit(x: str, path: str) -> str:
        unit = next(unit for unit in UNITS if unit.path == path)
        kernel = constant(f"{path}/w", arrays[f"params/{path}/conv/kernel"])
        bias = constant(f"{path}/b", arrays[f"params/{path}/bn/bias"])
        settings = {
            "strides": plane(1, unit.stride, unit.stride, 1),
            "padding": {"s": text(unit.padding)},
            "data_format": {"s": text("NHWC")},
        }
        if fused:
            both = {"list": {"s": [text("BiasAdd"), text("Relu")]}}
            return add(
                "_FusedConv2D", [f"{x}:0", kernel, bias, "^image"], fused_ops=both, **settings
            )
        return add("Relu", [add("BiasAdd", [add("Conv2D", [x, kernel], **settings), bias])])

    def branch(x: str, prefix: str, steps: Branch) -> str:
        for step in steps:
            if isinstance(step, Fork):
                x = join([unit(x, prefix + conv.name) for conv in step.convs])
            elif isinstance(step, Conv):
                x = unit(x, prefix + step.name)
            else:
                x = add(
                    "MaxPool" if step.kind == "max" else "AvgPool",
                    [x],
                    ksize=plane(1, 3, 3, 1),
                    strides=plane(1, step.stride, step.stride, 1),
                    padding={"s": text("VALID" if step.stride == 2 else "SAME")},
                )
        return x

    def join(ends: list[str]) -> str:
        return add("ConcatV2", [*ends, axis])

    axis = constant("axis", np.array(3, np.int32))
    x = branch("image", "", STEM)
    for block in BLOCKS:
        x = join([branch(x, f"{block.name}/", steps) for steps in block.branches])
    x = add("Mean", [x, constant("axes", np.array([1, 2], np.int32))])
    x = add("MatMul", [x, constant("head/w", arrays[names.HEAD_KERNEL])])
    x = add("BiasAdd", [x, constant("head/b", arrays[names.HEAD_BIAS])])
    add("Identity", [add("Softmax", [x])])
    return {"node": nodes[::-1]}, weights  # in an order that does not help


@pytest.mark.parametrize("fused", [True, False])
def test_graph_model_is_found_by_its_graph(tmp_path: Path, arrays: Arrays, fused: bool) -> None:
    graph, weights = graph_model(arrays, fused)
    path = write_model(tmp_path / "model", weights, topology=graph, more={"format": "graph-model"})
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


def test_graph_with_a_loop(tmp_path: Path, arrays: Arrays) -> None:
    graph, weights = graph_model(arrays)
    graph["node"][-1] |= {"op": "Relu", "input": [graph["node"][0]["name"]]}
    path = write_model(tmp_path / "model", weights, topology=graph)
    with pytest.raises(WeightsError, match="found a loop in the graph"):
        tfjs.read(path, SMALL)


def test_graph_of_something_else(tmp_path: Path, arrays: Arrays) -> None:
    graph, weights = graph_model(arrays)
    for node in graph["node"]:
        if node["op"] == "_FusedConv2D":
            node["attr"]["fused_ops"]["list"]["s"][1] = text("Relu6")
    path = write_model(tmp_path / "model", weights, topology=graph)
    with pytest.raises(WeightsError, match="94 convolutions, of which 0 are in place"):
        tfjs.read(path, SMALL)


# What is wrong with model.json, and what must be said.


def entry(model: Json, name: str) -> Json:
    return next(e for e in model["weightsManifest"][0]["weights"] if e["name"] == name)


def setting(name: str, key: str, value: Any) -> Callable[[Json], None]:
    return lambda model: entry(model, name).__setitem__(key, value)


def shard(value: Any) -> Callable[[Json], None]:
    return lambda model: model["weightsManifest"][0]["paths"].__setitem__(0, value)


def quantisation(**values: Any) -> Callable[[Json], None]:
    return setting("conv2d_5/kernel", "quantization", {"dtype": "uint8", **values})


def twice(model: Json) -> None:
    entry(model, "conv2d_5/kernel")["name"] = "conv2d_6/kernel"


def swapped(model: Json) -> None:
    a, b = entry(model, "conv2d/kernel"), entry(model, "conv2d_5/kernel")
    a["name"], b["name"] = b["name"], a["name"]


def many(model: Json) -> None:
    model["weightsManifest"][0]["weights"] *= 60


OUTSIDE = r"found path .*, expected one within the folder"
CHANGES: dict[str, tuple[Callable[[Json], None], str]] = {
    "shard above": (shard("../plain/group1-shard1of1.bin"), OUTSIDE),
    "shard anywhere": (shard("/etc/hostname"), OUTSIDE),
    "shard of Windows": (shard("..\\x.bin"), OUTSIDE),
    "shard without a name": (shard(""), OUTSIDE),
    "shard of a number": (shard(7), OUTSIDE),
    "shard with a zero byte": (shard("a\0b"), OUTSIDE),
    "half a character": (shard("\ud800.bin"), r"found no file|within the folder"),
    "shard missing": (shard("group9.bin"), r"found no file 'group9\.bin'"),
    "shard is the folder": (shard("."), r"found no file '\.'"),
    "shard twice": (
        lambda model: model["weightsManifest"][0]["paths"].append(
            model["weightsManifest"][0]["paths"][0]
        ),
        r"found 'group1-shard1of\d+\.bin' twice",
    ),
    "size that lies": (
        setting("conv2d_5/kernel", "shape", [2**30, 2**30, 2**30, 16]),
        r"found \d+ bytes in its shards, expected 792\d+",
    ),
    "shape of text": (setting("conv2d_5/kernel", "shape", ["1"]), r"conv2d_5/kernel: found shape"),
    "shape below zero": (setting("conv2d_5/kernel", "shape", [-1]), r"conv2d_5/kernel: found sh"),
    "shape of truths": (setting("conv2d_5/kernel", "shape", [True]), r"conv2d_5/kernel: found sh"),
    "no shape": (setting("conv2d_5/kernel", "shape", None), r"conv2d_5/kernel: found shape None"),
    "name of a number": (setting("conv2d_5/kernel", "name", 5), r"weights\[\d+\]: found no name"),
    "broken name": (setting("conv2d_5/kernel", "name", "\udc00"), r"\]: found no name"),
    "type unknown": (setting("conv2d_5/kernel", "dtype", "string"), r"found dtype 'string'"),
    "whole numbers": (setting("conv2d_5/kernel", "dtype", "int32"), r"found values of type int32"),
    "scale not a number": (quantisation(scale=float("nan"), min=0), r"no finite scale and min"),
    "scale of text": (quantisation(scale="1", min=0), r"found no finite scale and min"),
    "scale beyond floats": (quantisation(scale=10**400, min=0), r"found no finite scale and min"),
    "no least": (quantisation(scale=1.0), r"found no finite scale and min"),
    "quantised to text": (
        setting("conv2d_5/kernel", "quantization", {"dtype": ["uint8"]}),
        r"found quantization to \['uint8'\]",
    ),
    "quantised by a list": (setting("conv2d_5/kernel", "quantization", []), r"found no object"),
    "name twice": (twice, r"conv2d_6/kernel: found two weights of that name"),
    "layers swapped": (swapped, r"conv2d/kernel: found shape .*; conv2d_5/kernel: found shape"),
    "many weights": (many, r"found no list of up to 20000 weights"),
    "group of a number": (lambda model: model.update(weightsManifest=[3]), r"\[0\]: found no obj"),
    "no manifest": (lambda model: model.update(weightsManifest={}), r"found no weightsManifest"),
    "no groups": (lambda model: model.update(weightsManifest=[]), r"conv2d: found 0 layers"),
    "topology of a graph": (
        lambda model: model.update(format="graph-model"),
        r"modelTopology: found no list of up to 20000 nodes",
    ),
    "layers without a class": (
        lambda model: model.update(modelTopology={"config": {"layers": [{}]}}),
        r"found a model's layer without a class",
    ),
}


def assert_refused(path: Path, expected: str) -> None:
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=expected) as caught:
        tfjs.read(path, SMALL)
    assert time.perf_counter() - start < 1
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CHANGES)
def test_fault_in_the_manifest_is_named(
    changed: Callable[[Callable[[Json], None]], Path], name: str
) -> None:
    change, expected = CHANGES[name]
    assert_refused(changed(change), expected)


def test_not_a_number_among_the_weights(tmp_path: Path, arrays: Arrays) -> None:
    weights = as_keras(arrays)
    weights["conv2d_5/kernel"] = np.full_like(weights["conv2d_5/kernel"], np.nan)
    assert_refused(write_model(tmp_path / "model", weights), r"conv2d_5/kernel: found \d+ values n")


def test_missing_and_unknown_weights_come_at_once(tmp_path: Path, arrays: Arrays) -> None:
    weights = as_keras(arrays)
    del weights["conv2d_5/kernel"], weights["batch_normalization_9/beta"]
    weights["mystery/w"] = np.ones(3, np.float32)
    weights["conv2d_7/bias"] = np.ones(3, np.float32)
    with pytest.raises(WeightsError) as caught:
        tfjs.read(write_model(tmp_path / "model", weights), SMALL)
    assert str(caught.value).count(": found ") == 4


def test_shard_that_leads_out_of_the_folder(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "model")
    first = next((tmp_path / "model").glob("*shard1of*"))
    first.rename(tmp_path / "outside.bin")
    first.symlink_to(tmp_path / "outside.bin")
    assert_refused(tmp_path / "model", OUTSIDE)


def test_shard_cut_off(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "model")
    first = next((tmp_path / "model").glob("*shard1of*"))
    first.write_bytes(first.read_bytes()[:-1])
    assert_refused(tmp_path / "model", r"found \d+ bytes in its shards, expected \d+")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"modelTopology": ' + "[" * 100_000, "no sound JSON"),
        ('{"modelTopology": {}, "weightsManifest": ', "no sound JSON"),
        ('{"weightsManifest": 1e999}', "found no weightsManifest"),
        ('{"weightsManifest": ' + "9" * 5000 + "}", "no sound JSON"),
        ('{"modelTopology": "' + " " * 2**23 + '"}', "found 8388629 bytes of JSON"),
    ],
    ids=["deep", "cut off", "infinite", "long number", "huge"],
)
def test_json_that_is_none(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(content)
    assert tfjs.recognises(path)
    assert tfjs.recognises(tmp_path)
    assert_refused(path, expected)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"a": "modelTopology"}', b"\x89HDF", b"[1]"])
def test_other_files_are_not_recognised(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.json").write_bytes(content)
    assert not tfjs.recognises(tmp_path / "model.json")
    assert not tfjs.recognises(tmp_path)


@pytest.mark.parametrize("kind", ["layers", "graph"])
def test_damaged_files_are_read_or_refused(
    tmp_path: Path, arrays: Arrays, fuzz: Callable[..., dict[str, int]], kind: str
) -> None:
    graph, weights = graph_model(arrays) if kind == "graph" else (topology(), as_keras(arrays))
    path = write_model(tmp_path / "model", weights, "uint8", graph)
    counts = fuzz(path, lambda p: tfjs.read(p, SMALL), n=100)
    assert sum(counts.values()) == 100
    assert counts["refused"] > 10
