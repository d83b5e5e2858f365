"""TensorFlow.js models that are wrong, damaged, or made to harm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hostile
import tfjs_writer as writer
from thyrojax.errors import WeightsError
from thyrojax.weights.formats import tfjs
from thyrojax.weights.types import Arrays, Request

SMALL = Request(depth_multiplier=0.05)
Json = dict[str, Any]


@pytest.fixture(scope="module")
def arrays(new_arrays: Callable[..., Arrays]) -> Arrays:
    return new_arrays(0.05, classes=5)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, arrays: Arrays) -> Path:
    """The folder of a plain model."""
    return writer.write_model(tmp_path_factory.mktemp("plain"), writer.as_keras(arrays)).parent


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


def test_graph_with_a_loop(tmp_path: Path, arrays: Arrays) -> None:
    graph, weights = writer.graph_model(arrays)
    graph["node"][-1] |= {"op": "Relu", "input": [graph["node"][0]["name"]]}
    path = writer.write_model(tmp_path / "model", weights, topology=graph)
    with pytest.raises(WeightsError, match="found a loop in the graph"):
        tfjs.read(path, SMALL)


def test_graph_of_something_else(tmp_path: Path, arrays: Arrays) -> None:
    graph, weights = writer.graph_model(arrays)
    for node in graph["node"]:
        if node["op"] == "_FusedConv2D":
            node["attr"]["fused_ops"]["list"]["s"][1] = writer.text("Relu6")
    path = writer.write_model(tmp_path / "model", weights, topology=graph)
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
    hostile.assert_refused(lambda p: tfjs.read(p, SMALL), path, expected)


@pytest.mark.parametrize("name", CHANGES)
def test_fault_in_the_manifest_is_named(
    changed: Callable[[Callable[[Json], None]], Path], name: str
) -> None:
    change, expected = CHANGES[name]
    assert_refused(changed(change), expected)


def test_not_a_number_among_the_weights(tmp_path: Path, arrays: Arrays) -> None:
    weights = writer.as_keras(arrays)
    weights["conv2d_5/kernel"] = np.full_like(weights["conv2d_5/kernel"], np.nan)
    assert_refused(
        writer.write_model(tmp_path / "model", weights), r"conv2d_5/kernel: found \d+ values n"
    )


def test_missing_and_unknown_weights_come_at_once(tmp_path: Path, arrays: Arrays) -> None:
    weights = writer.as_keras(arrays)
    del weights["conv2d_5/kernel"], weights["batch_normalization_9/beta"]
    weights["mystery/w"] = np.ones(3, np.float32)
    weights["conv2d_7/bias"] = np.ones(3, np.float32)
    with pytest.raises(WeightsError) as caught:
        tfjs.read(writer.write_model(tmp_path / "model", weights), SMALL)
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
def test_damaged_files_are_read_or_refused(tmp_path: Path, arrays: Arrays, kind: str) -> None:
    graph, weights = (
        writer.graph_model(arrays)
        if kind == "graph"
        else (writer.topology(), writer.as_keras(arrays))
    )
    path = writer.write_model(tmp_path / "model", weights, "uint8", graph)
    counts = hostile.fuzz(path, lambda p: tfjs.read(p, SMALL), n=100)
    assert sum(counts.values()) == 100
    assert counts["refused"] > 10
