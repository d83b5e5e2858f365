"""TensorFlow's frozen graphs: the network is found by its graph, whatever its names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tf_writer as writer
from thyrojax.weights import names, read
from thyrojax.weights.formats import slim_frozen
from thyrojax.weights.types import VARIANTS, Arrays, Reading, Request

SMALL = Request(depth_multiplier=0.05)
FIRST = "InceptionV3/Conv2d_1a_3x3"
FIFTH = "InceptionV3/Conv2d_4a_3x3"
HEAD = "InceptionV3/Logits/Conv2d_1c_1x1"
Change = Callable[[dict[str, bytes]], None]


message, node = writer.message, writer.node


@pytest.fixture(scope="module")
def arrays(new_arrays: Callable[..., Arrays]) -> Arrays:
    return new_arrays(0.05, classes=7, scales=True)


@pytest.fixture(scope="module")
def built(arrays: Arrays) -> dict[str, dict[str, bytes]]:
    """Nodes of networks by the options that they were built with."""
    return {}


@pytest.fixture
def new_file(
    tmp_path: Path, arrays: Arrays, built: dict[str, dict[str, bytes]]
) -> Callable[..., Path]:
    """Writes the network with `Builder`'s options; `change` may alter its nodes."""

    def new(change: Change | None = None, given: Arrays | None = None, **options: Any) -> Path:
        if given or str(options) not in built:
            built[str(options)] = writer.Builder(given or arrays, **options).nodes
        nodes = dict(built.pop(str(options)) if given else built[str(options)])
        if change:
            change(nodes)
        path = tmp_path / "graph.pb"
        path.write_bytes(writer.graph(nodes.values()))
        return path

    return new


def assert_same(reading: Reading, arrays: Arrays) -> None:
    assert reading.arrays.keys() == arrays.keys()
    for path, array in arrays.items():
        found = reading.arrays[path]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, array, err_msg=path)


@pytest.mark.parametrize("norm", ["fused", "arithmetic", "global"])
@pytest.mark.parametrize("head", ["conv", "dense"])
def test_batch_norm_of_every_kind_bit_for_bit(
    new_file: Any, arrays: Arrays, norm: str, head: str
) -> None:
    path = new_file(norm=norm, head=head, epsilon=2e-3, identities=head == "conv")
    assert slim_frozen.recognises(path)
    reading = slim_frozen.read(path, SMALL)
    assert_same(reading, arrays)
    assert reading.variant.epsilon == 2e-3
    n_settings = 94 if norm == "arithmetic" else 0  # the epsilons, each a constant of its own
    assert len(reading.used) == 94 * 5 + 2 + n_settings
    n_axes = 11
    assert len(reading.ignored) == n_axes + (head == "dense")
    assert {reason.split(":")[0] for reason in reading.ignored.values()} == {"not a weight"}


def test_names_of_slim_are_what_was_used(new_file: Any) -> None:
    reading = slim_frozen.read(new_file(), SMALL)
    assert f"{FIRST}/weights" in reading.used
    assert "InceptionV3/Mixed_7c/Branch_1/Conv2d_0c_3x1/BatchNorm/moving_variance" in reading.used
    assert f"{HEAD}/biases" in reading.used


# Some names of classify_image_graph_def.pb, as public ports to PyTorch map them.
NAMES_OF_2015 = {
    "conv/conv2d_params": "params/Conv2d_1a_3x3/conv/kernel",
    "conv_4/batchnorm/beta": "params/Conv2d_4a_3x3/bn/bias",
    "mixed/conv/batchnorm/gamma": "params/Mixed_5b/branch1x1/bn/scale",
    "mixed/tower/conv_1/conv2d_params": "params/Mixed_5b/branch5x5_2/conv/kernel",
    "mixed_2/tower_2/conv/conv2d_params": "params/Mixed_5d/branch_pool/conv/kernel",
    "mixed_3/tower/conv_2/batchnorm/moving_mean": "batch_stats/Mixed_6a/branch3x3dbl_3/bn/mean",
    "mixed_7/tower_1/conv_4/conv2d_params": "params/Mixed_6e/branch7x7dbl_5/conv/kernel",
    "mixed_8/tower/conv_1/conv2d_params": "params/Mixed_7a/branch3x3_2/conv/kernel",
    "mixed_9/tower/mixed/conv/conv2d_params": "params/Mixed_7b/branch3x3_2a/conv/kernel",
    "mixed_10/tower_1/mixed/conv_1/batchnorm/gamma": "params/Mixed_7c/branch3x3dbl_3b/bn/scale",
    "softmax/weights": "params/fc/kernel",
    "softmax/biases": "params/fc/bias",
}


def test_graph_of_2015(new_file: Any, arrays: Arrays) -> None:
    def change(nodes: dict[str, bytes]) -> None:
        """Marks the arrays in question, each by another number."""
        for i, (theirs, ours) in enumerate(NAMES_OF_2015.items()):
            nodes[theirs] = node(theirs, "Const", value=arrays[ours] + np.float32(i))

    path = new_file(
        change, naming="2015", norm="global", last_max=True, head="dense",
        prepare=(("Sub", 128.0), ("Mul", 0.0078125)),
    )  # fmt: skip
    reading = slim_frozen.read(path, SMALL)
    marked = {ours: arrays[ours] + np.float32(i) for i, ours in enumerate(NAMES_OF_2015.values())}
    assert_same(reading, arrays | marked)
    assert reading.variant == VARIANTS["fid2015"]
    assert reading.notes[0] == "input: the graph itself prepares images, (x-128)/128"


def test_images_decoded_by_the_graph_are_left_out(new_file: Any, arrays: Arrays) -> None:
    """As the graph of 2015 begins."""

    def change(nodes: dict[str, bytes]) -> None:
        nodes |= {
            "contents": node("contents", "Const", value=message((1, 7), (8, "a JPEG file"))),
            "DecodeJpeg": node("DecodeJpeg", "DecodeJpeg", ["contents"]),
            "Cast": node("Cast", "Cast", ["DecodeJpeg"]),
            "dim": node("dim", "Const", value=np.array(0, np.int32)),
            "ExpandDims": node("ExpandDims", "ExpandDims", ["Cast", "dim"]),
            "size": node("size", "Const", value=np.array([299, 299], np.int32)),
            "Resize": node("Resize", "ResizeBilinear", ["ExpandDims", "size"]),
            "Sub": node("Sub", "Sub", ["Resize", "Sub/y"]),
        }

    prepare = (("Sub", 128.0), ("Mul", 0.0078125))
    reading = slim_frozen.read(new_file(change, last_max=True, prepare=prepare), SMALL)
    assert_same(reading, arrays)
    assert reading.variant.preprocessing == "(x-128)/128"
    assert "input: ResizeBilinear (Resize) is left out" in reading.notes
    assert reading.ignored["contents"] == "not a weight: setting of DecodeJpeg"
    assert reading.ignored["size"] == "not a weight: setting of ResizeBilinear"


def test_preprocessing_that_has_no_name_moves_into_the_first_unit(
    new_file: Any, arrays: Arrays
) -> None:
    """Of a grey level of 200 the first unit makes what it made with (x - 100) / 50."""
    prepare = (("Sub", 100.0), ("RealDiv", 50.0))
    reading = slim_frozen.read(new_file(prepare=prepare), SMALL)
    assert reading.variant.preprocessing == "x/127.5-1"
    kernel, mean = (reading.arrays[p] for p in (names.FIRST_KERNEL, names.FIRST_MEAN))
    ours = kernel.sum((0, 1, 2)) * (200 / 127.5 - 1) - mean
    theirs = arrays[names.FIRST_KERNEL].sum((0, 1, 2)) * 2 - arrays[names.FIRST_MEAN]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_unknown_preprocessing_is_assumed_and_told(new_file: Any) -> None:
    for last_max, expected in ((False, "x/127.5-1"), (True, "(x-128)/128")):
        reading = slim_frozen.read(new_file(last_max=last_max), SMALL)
        assert reading.variant.preprocessing == expected
        assert f"how images are prepared; {expected} assumed" in reading.notes[0]


def test_folded_batch_norm_becomes_an_identity(new_file: Any, arrays: Arrays) -> None:
    reading = slim_frozen.read(new_file(norm="bias"), SMALL)
    found = reading.arrays
    for unit in SMALL.trunk.units:
        np.testing.assert_array_equal(
            found[f"params/{unit.path}/bn/bias"], arrays[f"params/{unit.path}/bn/bias"]
        )
        assert (found[f"params/{unit.path}/bn/scale"] == 1).all()
        assert (found[f"batch_stats/{unit.path}/bn/mean"] == 0).all()
        var = found[f"batch_stats/{unit.path}/bn/var"] + np.float32(reading.variant.epsilon)
        assert (var == 1).all()
    assert "folded it into the convolutions" in reading.notes[0]


def test_batch_norm_that_was_worked_out_before(new_file: Any, arrays: Arrays) -> None:
    """A product and a sum, as when the constants of the arithmetic were folded together."""
    scale, shift = np.full(16, 2, np.float32), np.full(16, 3, np.float32)

    def change(nodes: dict[str, bytes]) -> None:
        nodes["s"], nodes["t"] = node("s", "Const", value=scale), node("t", "Const", value=shift)
        nodes["scaled"] = node("scaled", "Mul", ["s", f"{FIRST}/Conv2D"])
        name = f"{FIRST}/BatchNorm/FusedBatchNormV3"
        nodes[name] = node(name, "AddV2", ["scaled", "t"])

    found = slim_frozen.read(new_file(change), SMALL).arrays
    np.testing.assert_array_equal(found["params/Conv2d_1a_3x3/bn/scale"], scale)
    np.testing.assert_array_equal(found["params/Conv2d_1a_3x3/bn/bias"], shift)
    second = "batch_stats/Conv2d_2a_3x3/bn/mean"
    np.testing.assert_array_equal(found[second], arrays[second])


def test_vectors_laid_along_the_channels(new_file: Any, new_arrays: Callable[..., Arrays]) -> None:
    """As Keras 3 has them."""
    arrays = new_arrays(0.05, classes=2)
    bn = f"{FIRST}/BatchNorm"

    def change(nodes: dict[str, bytes]) -> None:
        nodes["shape"] = node("shape", "Const", value=np.array([1, 1, 1, 16], np.int32))
        nodes["laid"] = node("laid", "Reshape", [f"{bn}/beta", "shape"])
        name = f"{bn}/batchnorm/sub"
        nodes[name] = node(name, "Sub", ["laid", f"{bn}/batchnorm/mul_2"])
        mean = arrays["batch_stats/Conv2d_2a_3x3/bn/mean"].reshape(1, 1, 1, -1)
        name = "InceptionV3/Conv2d_2a_3x3/BatchNorm/moving_mean"
        nodes[name] = node(name, "Const", value=mean)

    reading = slim_frozen.read(new_file(change, given=arrays, norm="arithmetic"), SMALL)
    assert_same(reading, arrays)
    assert reading.ignored["shape"] == "not a weight: setting of Reshape"


def test_scales_given_as_one_value(new_file: Any, arrays: Arrays) -> None:
    """TensorFlow writes a constant of equal values as one."""

    def change(nodes: dict[str, bytes]) -> None:
        name = f"{FIFTH}/BatchNorm/gamma"
        one = message((1, 1), (2, writer.shape_proto([16])), (5, 1.0))
        nodes[name] = node(name, "Const", value=one)

    reading = slim_frozen.read(new_file(change), SMALL)
    scale = {"params/Conv2d_4a_3x3/bn/scale": np.ones(16, np.float32)}
    assert_same(reading, arrays | scale)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_float32(new_file: Any, arrays: Arrays, dtype: Any) -> None:
    given = arrays[names.FIRST_KERNEL].astype(dtype)

    def change(nodes: dict[str, bytes]) -> None:
        nodes[f"{FIRST}/weights"] = node(f"{FIRST}/weights", "Const", value=given)

    found = slim_frozen.read(new_file(change), SMALL).arrays[names.FIRST_KERNEL]
    np.testing.assert_array_equal(found, given.astype(np.float32))


def test_scale_that_the_operator_does_not_use(new_file: Any, arrays: Arrays) -> None:
    def change(nodes: dict[str, bytes]) -> None:
        name = f"{FIRST}/BatchNorm"
        parts = ("moving_mean", "moving_variance", "beta", "gamma")
        inputs = [f"{FIRST}/Conv2D", *(f"{name}/{part}" for part in parts)]
        settings = {"variance_epsilon": 1e-3, "scale_after_normalization": False}
        nodes[name] = node(name, "BatchNormWithGlobalNormalization", inputs, **settings)

    reading = slim_frozen.read(new_file(change, norm="global"), SMALL)
    assert_same(reading, arrays | {"params/Conv2d_1a_3x3/bn/scale": np.ones(16, np.float32)})
    assert reading.ignored[f"{FIRST}/BatchNorm/gamma"].startswith("scale that is not used")


def test_auxiliary_head_under_slims_names(new_file: Any, new_arrays: Callable[..., Arrays]) -> None:
    given = new_arrays(0.05, classes=5, aux=True, scales=True, channels=1)
    path = new_file(given=given)
    assert_same(slim_frozen.read(path, SMALL), given)
    reading = slim_frozen.read(path, Request("drop", 0.05))
    assert names.AUX_BIAS not in reading.arrays
    assert reading.ignored[f"{HEAD}/weights"] == "classifier: not asked for"
    aux = "InceptionV3/AuxLogits/Conv2d_2a_5x5/BatchNorm/beta"
    assert reading.ignored[aux] == "classifier: not asked for"


def test_no_head_and_another_networks(new_file: Any) -> None:
    reading = slim_frozen.read(new_file(head="none"), SMALL)
    assert names.HEAD_BIAS not in reading.arrays
    reading = slim_frozen.read(new_file(head="foreign"), SMALL)
    assert names.HEAD_BIAS not in reading.arrays
    assert reading.ignored["softmax/weights"] == "foreign head: operand of MatMul"
    assert reading.ignored["softmax/biases"] == "foreign head: operand of BiasAdd"


def test_classifier_put_on_later(new_file: Any, arrays: Arrays) -> None:
    """As TensorFlow's own retraining script leaves its graphs."""

    def change(nodes: dict[str, bytes]) -> None:
        bottleneck, old = "input/Bottleneck", "softmax/MatMul"
        nodes[bottleneck] = node(bottleneck, "PlaceholderWithDefault", ["pool_3/_reshape"])
        nodes[old] = node(old, "MatMul", [bottleneck, "softmax/weights"])

    reading = slim_frozen.read(new_file(change, head="dense"), SMALL)
    assert_same(reading, arrays)


def test_operators_in_any_order(tmp_path: Path, arrays: Arrays) -> None:
    nodes = list(writer.Builder(arrays).nodes.values())
    path = tmp_path / "graph.pb"
    path.write_bytes(writer.graph(reversed(nodes)))
    assert_same(slim_frozen.read(path, SMALL), arrays)


def test_weights_are_found_by_content(new_file: Any, tmp_path: Path) -> None:
    weights = read(new_file().rename(tmp_path / "anything"), depth_multiplier=0.05)
    assert weights.format == "slim-frozen"
    assert weights.classes == 7


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x0a",
        b"\x0a\x7f\x0a\x05input\x12\x0bPlaceholder",  # longer than the file
        b"\x0a\x07\x0a\x05input",
        b"\x0a\x10\x0a\x05input\x12\x07no name",
        b"\x08\x07\x12\x07pytorch",  # ONNX
        bytes(99),
    ],
)
def test_other_content_is_not_recognised(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "graph.pb"
    path.write_bytes(content)
    assert not slim_frozen.recognises(path)
    assert not slim_frozen.recognises(tmp_path)
