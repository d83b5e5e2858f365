"""The StableHLO export: what JAX runs out of the file is the network, on any platform."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from thyrojax import weights
from thyrojax.errors import WeightsError
from thyrojax.weights import Variant, Weights, graph
from thyrojax.weights.comparison import outputs, outputs_difference, probe_images
from thyrojax.weights.formats import stablehlo
from thyrojax.weights.types import VARIANTS, Arrays

TOLERANCE = 1e-5
ABOUT = {
    "source": {"format": "keras", "file": "base.h5", "sha256": "ab" * 32},
    "labels": ["benign", "malignant"],
    "crop": {"shape": "square", "margin": 50},
}
COLOURS = Variant("padded", "max", 1e-5, "(x/255-mean)/std")

NewArrays = Callable[..., Arrays]


def weights_of(arrays: Arrays, variant: Variant) -> Weights:
    return Weights(arrays, variant, "none", (), {}, Path("none"), "", depth_multiplier=0.05)


@pytest.fixture(scope="module")
def any_size(new_arrays: NewArrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stablehlo") / "x.stablehlo"
    arrays = new_arrays(classes=2, aux=True, scales=True)
    found = stablehlo.write(path, arrays, COLOURS, ABOUT)
    assert found == ["AuxLogits: left out, inference does not use it"]
    return path


@pytest.fixture(scope="module")
def one_size(new_arrays: NewArrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey, without a classifier, at 91 px."""
    path = tmp_path_factory.mktemp("stablehlo") / "x.stablehlo"
    metadata = {**ABOUT, "export": {"input_size": 91}}
    stablehlo.write(path, new_arrays(channels=1), VARIANTS["keras"], metadata)
    return path


def test_the_file_runs_as_the_network_does_for_any_size_and_batch(
    any_size: Path, new_arrays: NewArrays
) -> None:
    rng = np.random.default_rng(0)
    three = rng.integers(0, 256, (3, 107, 91, 3)).astype(np.uint8)
    expected = outputs(weights_of(new_arrays(classes=2, scales=True), COLOURS), three)
    found = stablehlo.run(any_size, three)
    assert found.keys() == {"pool", "logits", "probabilities"}
    differences = outputs_difference(expected, found)
    assert differences.keys() == {"pool", "logits"}
    assert max(differences.values()) <= TOLERANCE
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, atol=1e-6)
    alone = stablehlo.run(any_size, probe_images(3, 75)[:1])
    assert alone["pool"].shape == (1, 108)


def test_a_grey_network_of_one_size(one_size: Path, new_arrays: NewArrays) -> None:
    assert stablehlo.probe_size(one_size) == 91
    images = probe_images(1, 91)
    found = stablehlo.run(one_size, images)
    expected = outputs(weights_of(new_arrays(channels=1), VARIANTS["keras"]), images)
    assert found.keys() == {"pool"}
    assert outputs_difference(expected, found)["pool"] <= TOLERANCE
    with pytest.raises(ValueError, match=r"expected \(batch, 91, 91, 1\)"):
        stablehlo.run(one_size, probe_images(1, 92))


def test_one_file_is_for_three_platforms_at_full_precision(any_size: Path) -> None:
    exported = jax.export.deserialize(bytearray(any_size.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    (image,) = exported.in_avals
    assert (str(image.dtype), str(image.shape)) == ("float32", "(batch, height, width, 3)")
    program = exported.mlir_module()
    products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
    kernels = program.count("stablehlo.convolution") + program.count("dynamic_conv")
    assert program.count("#stablehlo<precision HIGHEST>") >= 2 * kernels > 0


def test_the_files_last_line_describes_it(any_size: Path, one_size: Path) -> None:
    about = json.loads(any_size.read_bytes().rpartition(b"\n")[2])
    assert {name: about[name] for name in ABOUT} == ABOUT
    assert about["variant"] == vars(COLOURS)
    assert about["export"]["fixed_size"] is None
    assert about["export"]["colours"] == "RGB"
    assert "input_size" not in about
    about = json.loads(one_size.read_bytes().rpartition(b"\n")[2])
    assert about["input_size"] == about["export"]["fixed_size"] == 91
    assert about["export"]["colours"] == "grey"


def test_the_bytes_depend_on_the_weights_alone(
    any_size: Path, new_arrays: NewArrays, tmp_path: Path
) -> None:
    again = tmp_path / "again.stablehlo"

    def write_from_elsewhere() -> None:
        stablehlo.write(again, new_arrays(classes=2, aux=True, scales=True), COLOURS, ABOUT)

    write_from_elsewhere()
    assert again.read_bytes() == any_size.read_bytes()
    assert b".py" not in any_size.read_bytes()


@pytest.mark.parametrize("depth", [1.0, 0.5, 0.37, 0.05])
def test_the_width_of_a_network_shows_in_its_kernels(depth: float) -> None:
    units = graph.trunk(depth).units
    arrays = {
        f"params/{unit.path}/conv/kernel": np.empty((1, 1, 1, unit.outputs)) for unit in units
    }
    assert graph.trunk(stablehlo._depth_multiplier(arrays)).units == units


def test_an_export_is_known_and_not_read(any_size: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"found a StableHLO export that .* made of base\.h5 "):
        weights.read(any_size)
    content = any_size.read_bytes()
    for length in (0, 10, 70, 2000):
        cut = tmp_path / f"cut{length}"
        cut.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"cut\d+: found"):
            weights.read(cut)


def test_a_missing_package_is_named(
    tmp_path: Path, new_arrays: NewArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    path = tmp_path / "x.stablehlo"
    with pytest.raises(WeightsError, match="found no package flatbuffers"):
        stablehlo.write(path, new_arrays(), VARIANTS["keras"], {})
    assert not path.exists()


def test_a_conversion_is_tried_in_jax(new_arrays: NewArrays, tmp_path: Path) -> None:
    source = tmp_path / "x.safetensors"
    weights.write(weights_of(new_arrays(channels=1), VARIANTS["keras"]), source)
    target = tmp_path / "x.stablehlo"
    done = weights.convert(source, target, depth_multiplier=0.05, input_size=91)
    assert done.probe.keys() == {"pool"}
    assert done.probe["pool"] <= TOLERANCE


@pytest.mark.slow
def test_real_weights_run_without_flax_and_give_the_published_features(
    shared: Path, tmp_path: Path
) -> None:
    golden = shared / "golden" / "inception_v3_imagenet.npz"
    path = tmp_path / "x.stablehlo"
    arrays = weights.read(shared / "weights" / "keras" / "inceptionv3_v1.h5").arrays
    stablehlo.write(path, arrays, VARIANTS["keras"], {})
    size = sum(array.nbytes for array in arrays.values())
    assert path.stat().st_size < 1.01 * size
    script = (
        "import sys; sys.modules.update(flax=None, thyrojax=None)\n"
        "import jax, numpy as np\n"
        "function = jax.export.deserialize(bytearray(open(sys.argv[1], 'rb').read()))\n"
        "with np.load(sys.argv[2]) as golden:\n"
        "    found = function.call(golden['input_uint8'].astype(np.float32))['pool']\n"
        "    print(float(abs(found - golden['pool']).max() / golden['pool'].max()))\n"
    )
    command = [sys.executable, "-c", script, str(path), str(golden)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= TOLERANCE
