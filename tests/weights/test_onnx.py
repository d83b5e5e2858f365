"""The ONNX export: the same function in onnxruntime, with all that a user must know inside."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from thyrojax import weights
from thyrojax.data.crop import crop_numpy, window
from thyrojax.data.records import Box
from thyrojax.errors import WeightsError
from thyrojax.model.inception_v3 import MIN_INPUT_SIZE
from thyrojax.weights import Variant, Weights
from thyrojax.weights.comparison import outputs, outputs_difference, probe_images
from thyrojax.weights.formats import inference, onnx_graph
from thyrojax.weights.types import VARIANTS, Arrays

TOLERANCE = 1e-5
PAGE = Path(__file__).parents[2] / "docs" / "weights_onnx.md"
CROP = {
    "shape": "square",
    "border": "constant",
    "margin": 50,
    "interpolation": "bilinear, half-pixel, not antialiased",
}
ABOUT: dict[str, Any] = {
    "source": {"format": "orbax", "file": "mine", "sha256": "ab" * 32},
    "labels": ["benign", "malignant"],
    "input_size": 107,
    "crop": CROP,
}

NewArrays = Callable[..., Arrays]


def weights_of(arrays: Arrays, variant: Variant) -> Weights:
    return Weights(arrays, variant, "none", (), {}, Path("none"), "", depth_multiplier=0.05)


@pytest.fixture(scope="module")
def two_classes(new_arrays: NewArrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grey network of two classes with a crop, as of a run."""
    path = tmp_path_factory.mktemp("onnx") / "nodules.onnx"
    arrays = new_arrays(classes=2, channels=1, aux=True, scales=True)
    onnx_graph.write(path, arrays, VARIANTS["keras"], ABOUT)
    return path


@pytest.mark.parametrize(
    ("variant", "channels", "classes"),
    [
        (Variant("valid"), 3, 5),
        (Variant("padded", "max", 1e-5, "(x/255-mean)/std"), 3, 0),
        (Variant("padded", preprocessing="(x-128)/128"), 1, 5),
        (Variant("valid", "max", preprocessing="x/255"), 3, 5),
    ],
    ids=str,
)
def test_onnxruntime_computes_the_same_for_any_size_and_batch(
    new_arrays: NewArrays, tmp_path: Path, variant: Variant, channels: int, classes: int
) -> None:
    arrays = new_arrays(classes=classes, channels=channels, scales=True)
    path = tmp_path / "x.onnx"
    assert onnx_graph.write(path, arrays, variant, {}) == []
    rng = np.random.default_rng(0)
    three = rng.integers(0, 256, (3, 107, 91, channels)).astype(np.uint8)
    found = onnx_graph.run(path, three)
    expected = outputs(weights_of(arrays, variant), three)
    differences = outputs_difference(expected, found)
    assert differences.keys() == expected.keys()
    assert max(differences.values()) <= TOLERANCE
    alone = onnx_graph.run(path, three[:1])
    assert max(outputs_difference(alone, {k: v[:1] for k, v in found.items()}).values()) <= 1e-6
    if classes:
        odds = np.exp(expected["logits"] - expected["logits"].max(axis=1, keepdims=True))
        shares = odds / odds.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found["probabilities"], shares, atol=1e-4)
    else:
        assert found.keys() == {"pool"}


@pytest.mark.slow
def test_real_weights_give_the_published_features_and_classes(shared: Path, tmp_path: Path) -> None:
    with np.load(shared / "golden" / "inception_v3_imagenet.npz") as file:
        golden = dict(file)
    with np.load(shared / "weights" / "slim" / "imagenet_head_1001.npz") as head:
        fc = {f"params/fc/{name}": head[name] for name in ("kernel", "bias")}
    arrays = weights.read(shared / "weights" / "keras" / "inceptionv3_v1.h5").arrays | fc
    for name, features in (("keras", "pool"), ("torchvision", "pool_torchvision_pooling")):
        path = tmp_path / f"{name}.onnx"
        onnx_graph.write(path, arrays, VARIANTS[name], {})
        found = onnx_graph.run(path, golden["input_uint8"])
        assert max(outputs_difference({"pool": golden[features]}, found).values()) <= TOLERANCE
        if name == "keras":
            logits = {"logits": golden["slim_head_logits_1001"]}
            assert outputs_difference(logits, found)["logits"] <= TOLERANCE
            top = found["probabilities"].argmax(axis=1)
            known = dict(zip(golden["names"].tolist(), top.tolist(), strict=True))
            assert [known[k] for k in ("chelsea", "coffee", "rocket")] == [286, 968, 658]


def test_the_file_is_sound_and_asks_for_an_old_opset(two_classes: Path) -> None:
    onnx.checker.check_model(str(two_classes), full_check=True)
    model = onnx.load(two_classes)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    kinds = {node.op_type for node in model.graph.node}
    assert "BatchNormalization" not in kinds
    assert sum(node.op_type == "Conv" for node in model.graph.node) == 94
    session = onnxruntime.InferenceSession(two_classes)
    (given,) = session.get_inputs()
    assert (given.name, given.type) == ("image", "tensor(float)")
    assert given.shape == ["batch", "height", "width", 1]
    shapes = {output.name: output.shape for output in session.get_outputs()}
    # At depth 0.05 the last block's ends are 320 -> 16, four times 384 -> 19, and 192 -> 16 wide.
    assert shapes == {"pool": ["batch", 108], "logits": ["batch", 2], "probabilities": ["batch", 2]}


def test_the_metadata_tell_what_the_network_is_and_how_to_cut(two_classes: Path) -> None:
    session = onnxruntime.InferenceSession(two_classes)
    found = session.get_modelmeta().custom_metadata_map
    about = json.loads(found["thyrojax"])
    assert {name: about[name] for name in ABOUT} == ABOUT
    assert about["classes"] == 2
    assert about["channels"] == 1
    assert about["export"]["fixed_size"] is None
    assert found["labels"] == '["benign", "malignant"]'
    assert found["preprocessing"] == "x/127.5-1 (inside the graph)"
    assert found["pooling"] == "valid"
    assert found["crop_margin"] == "50"
    assert found["input_size"] == "107"
    assert found["source_sha256"] == "ab" * 32
    assert "grey levels 0..255" in onnx.load(two_classes).doc_string


def test_a_fixed_size_is_in_the_shape_and_in_the_description(
    new_arrays: NewArrays, tmp_path: Path
) -> None:
    path = tmp_path / "x.onnx"
    metadata = {**ABOUT, "export": {"input_size": 91}}
    onnx_graph.write(path, new_arrays(), VARIANTS["keras"], metadata)
    (given,) = onnxruntime.InferenceSession(path).get_inputs()
    assert given.shape == ["batch", 91, 91, 3]
    assert onnx_graph.probe_size(path) == 91
    images = probe_images(3, 91)
    assert onnx_graph.run(path, images)["pool"].shape == (2, 108)
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(entries["thyrojax"])["input_size"] == 91


@pytest.mark.parametrize("size", [74, 2**14 + 1, "384", 99.0, True])
def test_a_size_that_cannot_be_is_refused(
    new_arrays: NewArrays, tmp_path: Path, size: object
) -> None:
    path = tmp_path / "x.onnx"
    with pytest.raises(WeightsError, match=r"^\S+x\.onnx: found an input size of .* expected 75 "):
        onnx_graph.write(path, new_arrays(), VARIANTS["keras"], {"export": {"input_size": size}})
    assert not path.exists()
    assert inference.MIN_SIZE == MIN_INPUT_SIZE


def test_metadata_of_strangers_can_be_written(new_arrays: NewArrays, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    metadata = json.loads('{"export": [], "\\ud800": "\\udfff", "source": 3, "labels": {"a": [1]}}')
    onnx_graph.write(path, new_arrays(), VARIANTS["keras"], metadata)
    onnxruntime.InferenceSession(path)
    with pytest.raises(WeightsError, match="made of \\? "):
        weights.read(path)


def test_writing_twice_gives_the_same_bytes(
    two_classes: Path, new_arrays: NewArrays, tmp_path: Path
) -> None:
    again = tmp_path / "again.onnx"
    arrays = new_arrays(classes=2, channels=1, aux=True, scales=True)
    found = onnx_graph.write(again, arrays, VARIANTS["keras"], ABOUT)
    assert found == ["AuxLogits: left out, inference does not use it"]
    assert again.read_bytes() == two_classes.read_bytes()


def test_an_export_is_known_and_not_read(two_classes: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"found an ONNX export that thyrojax made of mine "):
        weights.read(two_classes)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(two_classes.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"found an ONNX export that thyrojax made of \?"):
        weights.read(cut)
    other = tmp_path / "other.onnx"
    model = onnx.load(two_classes)
    model.producer_name = "pytorch"
    onnx.save(model, other)
    with pytest.raises(WeightsError, match=r"other\.onnx: found \d+ bytes that begin with"):
        weights.read(other)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(
    two_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    use: Callable[[], object] = {
        "onnx": lambda: onnx_graph.write(tmp_path / "x.onnx", {}, VARIANTS["keras"], {}),
        "onnxruntime": lambda: onnx_graph.run(two_classes, probe_images(1, 75)),
    }[package]
    with pytest.raises(WeightsError, match=f"found no package {package}[ ,].*thyrojax\\[onnx\\]"):
        use()


def test_a_conversion_is_tried_in_onnxruntime(new_arrays: NewArrays, tmp_path: Path) -> None:
    source = tmp_path / "x.safetensors"
    found = weights.write(weights_of(new_arrays(classes=2), VARIANTS["keras"]), source)
    done = weights.convert(source, tmp_path / "x.onnx", depth_multiplier=0.05, input_size=107)
    assert found == ()
    assert done.format == "onnx"
    assert done.probe.keys() == {"pool", "logits"}
    assert max(done.probe.values()) <= TOLERANCE


# ---- the script of the page


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path_factory.mktemp("page") / "score.py"
    path.write_text(found[0])
    return path


def run_script(script: Path, *arguments: object) -> list[tuple[str, float]]:
    """What it prints in a Python that has neither jax nor thyrojax."""
    blocked = "import sys, runpy; sys.modules.update(jax=None, flax=None, thyrojax=None); "
    blocked += "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", blocked, *map(str, (script, *arguments))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" ", 1) for line in done.stdout.splitlines()]
    return [(label, float(chance)) for chance, label in rows]


def test_the_pages_script_scores_as_we_do_without_jax(
    script: Path, two_classes: Path, new_arrays: NewArrays, tmp_path: Path
) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (180, 240)).astype(np.uint8)
    Image.fromarray(frame).save(tmp_path / "frame.png")
    box = Box(150, 90, 221, 130)
    found = run_script(script, two_classes, tmp_path / "frame.png", *box)

    cut = window(box, 50, "square", "constant", *frame.shape)
    crop = crop_numpy(frame, cut, 107, "constant")
    arrays = new_arrays(classes=2, channels=1, aux=True, scales=True)
    network, variables = weights.network_of(weights_of(arrays, VARIANTS["keras"]))
    pixels = weights.preprocess(crop[np.newaxis, :, :, np.newaxis], "x/127.5-1")
    logits = np.asarray(jax.jit(network.apply)(variables, pixels)["logits"][0], np.float64)
    chance = 1 / (1 + np.exp(logits[0] - logits[1]))
    assert [label for label, _ in found] == ["benign", "malignant"]
    assert found[1][1] == pytest.approx(chance, abs=2e-5)


@pytest.mark.parametrize("shape", ["square", "square_cover", "rectangle"])
@pytest.mark.parametrize("border", ["constant", "edge", "reflect", "shift"])
def test_the_pages_script_cuts_as_we_do(script: Path, shape: Any, border: Any) -> None:
    there = runpy.run_path(str(script))
    rng = np.random.default_rng(2)
    for _ in range(20):
        frame = rng.integers(0, 256, rng.integers(20, 90, 2)).astype(np.uint8)
        x, y = (np.sort(rng.choice(n + 1, 2, replace=False)) for n in frame.shape[::-1])
        box = Box(int(x[0]), int(y[0]), int(x[1]), int(y[1]))
        margin = int(rng.integers(0, 60))
        crop = {"shape": shape, "border": border, "margin": margin}
        found = there["resize"](there["cut"](frame, box, crop), 31)
        cut = window(box, margin, shape, border, *frame.shape)
        np.testing.assert_allclose(found, crop_numpy(frame, cut, 31, border), atol=1e-4)


@pytest.mark.slow
def test_a_run_scores_the_same_out_of_its_export(
    script: Path, small_run: Path, tmp_path: Path
) -> None:
    from thyrojax.evaluate import predict

    path = tmp_path / "run.onnx"
    weights.convert(small_run, path, depth_multiplier=0.05)
    frame = np.random.default_rng(3).integers(0, 256, (200, 220)).astype(np.uint8)
    Image.fromarray(frame).save(tmp_path / "frame.png")
    box = (120.0, 60.0, 190.0, 110.0)
    found = run_script(script, path, tmp_path / "frame.png", 120, 60, 190, 110)
    expected = predict(small_run, tmp_path / "frame.png", box)
    assert found[1] == ("malignant", pytest.approx(expected["score"], abs=2e-5))
