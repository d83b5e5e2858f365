"""Frozen graphs that are wrong, damaged or made to harm: one line that says where, soon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hostile
import tf_writer as writer
from thyrojax.weights.formats import slim_frozen
from thyrojax.weights.types import Arrays, Request

SMALL = Request(depth_multiplier=0.05)
FIRST = "InceptionV3/Conv2d_1a_3x3"
FIFTH = "InceptionV3/Conv2d_4a_3x3"
HEAD = "InceptionV3/Logits/Conv2d_1c_1x1"
Nodes = dict[str, bytes]
Change = Callable[[Nodes], None]


message, node = writer.message, writer.node


@pytest.fixture(scope="module")
def networks(new_arrays: Callable[..., Arrays]) -> dict[str, Nodes]:
    """Nodes of the network by what its BatchNorm is."""
    arrays = new_arrays(0.05, classes=7, scales=True)
    norms = ("fused", "arithmetic", "bias")
    return {norm: writer.Builder(arrays, norm=norm).nodes for norm in norms}


@pytest.fixture
def new_file(tmp_path: Path, networks: dict[str, Nodes]) -> Callable[..., Path]:
    """Writes the network; `change` may alter its nodes."""

    def new(change: Change | None = None, norm: str = "fused") -> Path:
        nodes = dict(networks[norm])
        if change:
            change(nodes)
        path = tmp_path / "graph.pb"
        path.write_bytes(writer.graph(nodes.values()))
        return path

    return new


def removed(name: str) -> Change:
    return lambda nodes: nodes.__delitem__(name)


def replaced(name: str, *new: Any, **settings: Any) -> Change:
    return lambda nodes: nodes.__setitem__(name, node(name, *new, **settings))


def constant(name: str, *fields: tuple[int, Any]) -> Change:
    return replaced(name, "Const", value=message(*fields))


def deep(nodes: Nodes) -> None:
    """Messages within messages, which are not looked into."""
    data = b""
    for _ in range(10_000):
        data = message((1, data))
    nodes["deep"] = message((1, "deep"), (2, "NoOp"), (5, message((1, "f"), (2, data))))


def world(nodes: Nodes) -> None:
    """A classifier of a million million classes, all the same."""
    classes = 2**40
    for name, shape in (("weights", [1, 1, SMALL.trunk.features, classes]), ("biases", [classes])):
        value = message((1, 1), (2, writer.shape_proto(shape)), (5, 1.0))
        nodes[f"{HEAD}/{name}"] = node(f"{HEAD}/{name}", "Const", value=value)


CONV = (f"{FIRST}/Conv2D", "Conv2D", ["input", f"{FIRST}/weights"])
BATCH_NORM = f"{FIRST}/BatchNorm/FusedBatchNormV3"
PARTS = [f"{FIRST}/BatchNorm/{part}" for part in ("gamma", "beta", "moving_mean",
                                                      "moving_variance")]  # fmt: skip
SHAPE = (2, writer.shape_proto([3, 3, 3, 16]))
FAULTS: dict[str, tuple[Change, list[str]]] = {
    "input missing": (removed("input"), [f"{FIRST}/Conv2D: found no 'input', expected it"]),
    "constant missing": (
        removed(f"{FIFTH}/weights"),
        [f"{FIFTH}/Conv2D: found no '{FIFTH}/weights', expected it since it is read"],
    ),
    "two of one name": (
        lambda nodes: nodes.__setitem__("twice", nodes[f"{FIRST}/weights"]),
        [f"{FIRST}/weights: found two operators of that name"],
    ),
    "circle": (
        replaced(f"{FIRST}/Relu", "Relu", ["InceptionV3/Conv2d_2a_3x3/Relu"]),
        ["found operators that go in a circle"],
    ),
    "no name": (lambda nodes: nodes.__setitem__("", message((2, "NoOp"))), ["operator called ''"]),
    "channels first": (
        replaced(*CONV, strides=[1, 1, 2, 2], padding="VALID", data_format="NCHW"),
        [f"{FIRST}/Conv2D: found data_format NCHW, expected NHWC"],
    ),
    "another stride": (
        replaced(*CONV, strides=[1, 1, 1, 1], padding="VALID"),
        [r"Conv2d_1a_3x3: found strides \(1, 1\).*expected strides \(2, 2\)"],
    ),
    "shape": (
        replaced(f"{FIRST}/weights", "Const", value=np.zeros((3, 3, 3, 17), np.float32)),
        [r"Conv2d_1a_3x3/kernel .*: found shape \(3, 3, 3, 17\), expected \(3, 3, 3, 16\)"],
    ),
    "bytes missing": (
        constant(f"{FIRST}/weights", (1, 1), SHAPE, (4, bytes(100))),
        [f"{FIRST}/weights: found 100 bytes, expected 1728"],
    ),
    "type": (
        constant(f"{FIRST}/weights", (1, 3), SHAPE, (4, bytes(1728))),
        [f"{FIRST}/weights: found values of type int32, expected floats"],
    ),
    "not a number": (
        replaced(f"{FIRST}/weights", "Const", value=np.full((3, 3, 3, 16), np.nan, np.float32)),
        ["params/Conv2d_1a_3x3/conv/kernel: found 432 values not finite"],
    ),
    "negative variance": (
        replaced(f"{FIRST}/BatchNorm/moving_variance", "Const",
                 value=np.full(16, -1, np.float32)),
        ["batch_stats/Conv2d_1a_3x3/bn/var: found a negative variance"],
    ),
    "one value for a world": (
        world,
        [f"{HEAD}/weights: found shape .* in a file of .* bytes, expected all its values there"],
    ),
    "one value for a larger world": (
        constant(f"{FIRST}/weights", (1, 1), (2, writer.shape_proto([2**40] * 4)), (5, 1.0)),
        ["Conv2d_1a_3x3/kernel .*: found shape"],
    ),
    "shape without end": (
        constant(f"{FIRST}/weights", (1, 1), (2, writer.shape_proto([1] * 9))),
        [f"{FIRST}/weights: found 9 dimensions"],
    ),
    "negative size": (
        constant(f"{HEAD}/weights", (1, 1), (2, writer.shape_proto([1, 1, 16, -5]))),
        [rf"{HEAD}/weights: found shape .*, expected known sizes up to"],
    ),
    "constant of nothing": (
        replaced(f"{FIRST}/weights", "Const"),
        [f"{FIRST}/weights: found a constant without a value"],
    ),
    "axes without end": (
        constant("Mixed_7c/concat/axis", (1, 3), (2, writer.shape_proto([2**40]))),
        ["found a graph of .* operators"],
    ),
    "in training": (
        replaced(BATCH_NORM, "FusedBatchNormV3", [f"{FIRST}/Conv2D", *PARTS], epsilon=1e-3),
        [r"Conv2d_1a_3x3: found FusedBatchNormV3 .*, expected a convolution"],
    ),
    "another epsilon": (
        replaced(BATCH_NORM, "FusedBatchNormV3", [f"{FIRST}/Conv2D", *PARTS], epsilon=1e-2,
                 is_training=False),
        [r"BatchNorm: found epsilons \[0.001, 0.01\], expected one for all"],
    ),
    "epsilon that is none": (
        replaced(BATCH_NORM, "FusedBatchNormV3", [f"{FIRST}/Conv2D", *PARTS], epsilon=float("nan"),
                 is_training=False),
        [r"BatchNorm: found epsilons"],
    ),
    "no ReLU": (
        replaced(f"{FIRST}/Relu", "Identity", [BATCH_NORM]),
        [r"Conv2d_1a_3x3: .*expected a ReLU after it"],
    ),
    "other activation": (
        replaced(f"{FIRST}/Relu", "Relu6", [BATCH_NORM]),
        [r"Conv2d_1a_3x3: found Relu6 .*, expected a convolution with bias and ReLU"],
    ),
    "vectors of other lengths": (
        replaced(f"{FIRST}/BatchNorm/moving_mean", "Const", value=np.zeros(15, np.float32)),
        ["Conv2d_1a_3x3: found FusedBatchNormV3"],
    ),
    "inputs without end": (
        replaced("many", "AddN", ["input"] * 257), ["many: found 257 inputs, expected at most"]
    ),
    "too few inputs": (replaced(f"{FIRST}/Relu", "Add", [BATCH_NORM]), ["Conv2d_1a_3x3: found"]),
}  # fmt: skip


def assert_refused(path: Path, expected: list[str]) -> None:
    hostile.assert_refused(lambda p: slim_frozen.read(p, SMALL), path, *expected)


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_the_content_is_named(new_file: Any, fault: str) -> None:
    change, expected = FAULTS[fault]
    assert_refused(new_file(change), expected)


def test_depth_that_is_not_looked_into(new_file: Any) -> None:
    assert len(slim_frozen.read(new_file(deep), SMALL).used) == 94 * 5 + 2


def test_arithmetic_on_constants_without_end(new_file: Any) -> None:
    """Each step would double the work."""

    def change(nodes: Nodes) -> None:
        last = f"{FIRST}/BatchNorm/beta"
        for i in range(60):
            nodes[f"sum{i}"] = node(f"sum{i}", "Add", [last, last])
            last = f"sum{i}"
        nodes[f"{FIRST}/BiasAdd"] = node(f"{FIRST}/BiasAdd", "BiasAdd", [f"{FIRST}/Conv2D", last])

    assert_refused(new_file(change, norm="bias"), ["Conv2d_1a_3x3: found"])


def test_graphs_of_too_many_operators(tmp_path: Path) -> None:
    path = tmp_path / "graph.pb"
    path.write_bytes(writer.graph([node("x", "NoOp")]) + b"\x10\x00" * 20_001)
    assert_refused(path, ["found a message of more than 20000 fields"])


def test_saved_models_are_named(tmp_path: Path) -> None:
    path = tmp_path / "saved_model.pb"
    path.write_bytes(message((1, 1), (2, message((1, b"")))))
    assert slim_frozen.recognises(path)
    assert_refused(path, ["found a SavedModel.*expected a frozen graph"])


def test_another_networks_graph(tmp_path: Path) -> None:
    path = tmp_path / "graph.pb"
    path.write_bytes(writer.graph([node("x", "Placeholder"), node("y", "Relu", ["x:0"])]))
    assert slim_frozen.recognises(path)
    assert_refused(path, ["found a graph of 1 operators and 0 convolutions"])


def test_file_cut_off(new_file: Any) -> None:
    path = new_file()
    whole = path.read_bytes()
    for length in (60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert_refused(path, [": found"])


@pytest.mark.parametrize("norm", ["fused", "arithmetic"])
def test_damaged_files_are_read_or_refused(new_file: Any, norm: str) -> None:
    counts = hostile.fuzz(new_file(norm=norm), lambda path: slim_frozen.read(path, SMALL), n=12)
    assert sum(counts.values()) == 12
    assert counts["refused"] > 3
