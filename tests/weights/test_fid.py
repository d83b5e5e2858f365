"""The FID network's files: pytorch-fid's state dict, NVIDIA's TorchScript archive; and torchvision
scripted."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torch_files as files
from thyrojax.errors import WeightsError
from thyrojax.weights import VARIANTS, Weights, names, names_torch, read, write
from thyrojax.weights.formats import fid, torchscript, torchvision
from thyrojax.weights.types import Arrays

NARROW = 0.05
NewArrays = Callable[..., Arrays]
State = dict[str, np.ndarray]

# Layers of NVIDIA's archive, as a public port of it copies them key by key, and their units.
NVIDIA = {
    "conv": "Conv2d_1a_3x3",
    "conv_1": "Conv2d_2a_3x3",
    "conv_4": "Conv2d_4a_3x3",
    "mixed.conv": "Mixed_5b/branch1x1",
    "mixed.tower.conv_1": "Mixed_5b/branch5x5_2",
    "mixed.tower_1.conv_2": "Mixed_5b/branch3x3dbl_3",
    "mixed.tower_2.conv": "Mixed_5b/branch_pool",
    "mixed_3.conv": "Mixed_6a/branch3x3",
    "mixed_3.tower.conv_2": "Mixed_6a/branch3x3dbl_3",
    "mixed_4.tower.conv_1": "Mixed_6b/branch7x7_2",
    "mixed_7.tower_1.conv_4": "Mixed_6e/branch7x7dbl_5",
    "mixed_8.tower.conv_1": "Mixed_7a/branch3x3_2",
    "mixed_8.tower_1.conv_3": "Mixed_7a/branch7x7x3_4",
    "mixed_9.conv": "Mixed_7b/branch1x1",
    "mixed_9.tower_conv": "Mixed_7b/branch3x3_1",
    "mixed_9.tower_mixed_conv": "Mixed_7b/branch3x3_2a",
    "mixed_9.tower_mixed_conv_1": "Mixed_7b/branch3x3_2b",
    "mixed_9.tower_1_conv": "Mixed_7b/branch3x3dbl_1",
    "mixed_9.tower_1_conv_1": "Mixed_7b/branch3x3dbl_2",
    "mixed_10.tower_1_mixed_conv": "Mixed_7c/branch3x3dbl_3a",
    "mixed_10.tower_1_mixed_conv_1": "Mixed_7c/branch3x3dbl_3b",
    "mixed_10.tower_2_conv": "Mixed_7c/branch_pool",
}


def read_narrow(path: Path, **options: Any) -> Weights:
    return read(path, depth_multiplier=NARROW, **options)


def assert_same(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        assert found[path].tobytes() == array.tobytes(), path


def state_of(arrays: Arrays) -> State:
    return {
        names_torch.to_torch(path): names_torch.values_to_torch(array)
        for path, array in arrays.items()
    }


def saved(path: Path, state: State) -> Path:
    made, storages = files.tensors(state)
    return files.archive(path, files.ordered(made), storages)


# The state dict.


def test_classes_of_2015_tell_the_network(tmp_path: Path, new_arrays: NewArrays) -> None:
    arrays = new_arrays(classes=1008)
    path = saved(tmp_path / "pt_inception.pth", state_of(arrays))
    weights = read_narrow(path)
    assert_same(weights.arrays, arrays)
    assert weights.format == "fid"
    assert weights.variant == VARIANTS["fid"]
    assert (weights.variant.pooling, weights.variant.last_pool) == ("valid", "max")
    assert not torchvision.recognises(path)
    assert not torchscript.recognises(path)


def test_without_classes_it_must_be_said(tmp_path: Path, new_arrays: NewArrays) -> None:
    path = saved(tmp_path / "pt_inception.pth", state_of(new_arrays()))
    assert read_narrow(path).format == "torchvision"
    assert read_narrow(path, variant="fid").variant.last_pool == "max"


@pytest.mark.parametrize("classes", [0, 2, 1008])
def test_what_is_written_comes_back(tmp_path: Path, new_arrays: NewArrays, classes: int) -> None:
    arrays = new_arrays(classes=classes, scales=True)
    path = tmp_path / "a.fid.pth"
    assert fid.write(path, arrays, VARIANTS["fid2015"], {}) == []
    weights = read_narrow(path)
    assert_same(weights.arrays, arrays)
    assert weights.format == "fid"
    assert weights.variant == VARIANTS["fid2015"]
    again = tmp_path / "b.fid.pth"
    fid.write(again, arrays, VARIANTS["fid2015"], {})
    assert again.read_bytes() == path.read_bytes()


def test_other_networks_of_1008_classes_stay_what_they_say(
    tmp_path: Path, new_arrays: NewArrays
) -> None:
    path = tmp_path / "a.pth"
    torchvision.write(path, new_arrays(classes=1008), VARIANTS["torchvision"], {})
    weights = read_narrow(path)
    assert weights.format == "torchvision"
    assert weights.variant == VARIANTS["torchvision"]


def test_auxiliary_head_is_left_out_and_said(tmp_path: Path, new_arrays: NewArrays) -> None:
    arrays = new_arrays(classes=3, aux=True)
    given = Weights(
        arrays, VARIANTS["fid"], "none", (), {}, Path("nowhere"), "", depth_multiplier=NARROW
    )
    notes = write(given, tmp_path / "a.fid.pth")
    assert notes == ("AuxLogits: left out, the FID network has none",)
    found = read_narrow(tmp_path / "a.fid.pth")
    assert found.format == "fid"
    assert not found.has_aux_head
    assert found.classes == 3


# TorchScript.


def nested(flat: Mapping[str, bytes]) -> bytes:
    """Modules within modules, from dotted paths."""
    here: dict[str, Any] = {"training": pickle.NEWFALSE}
    inner: dict[str, dict[str, bytes]] = {}
    for key, value in flat.items():
        first, _, rest = key.partition(".")
        if rest:
            inner.setdefault(first, {})[rest] = value
        else:
            here[key] = value
    here |= {name: nested(items) for name, items in inner.items()}
    return files.module("__torch__.torch.nn.Module", here)


def nvidia_state(arrays: Arrays) -> State:
    """All arrays under NVIDIA's names, of which `NVIDIA` above is the independent part."""
    from thyrojax.weights import names_2015

    state: State = {}
    for unit, name in zip(names.UNITS, names_2015.unit_names(), strict=True):
        block, _, rest = name.partition("/")
        flat = block in ("mixed_9", "mixed_10")
        place = f"{block}.{rest.replace('/', '_')}" if flat else name.replace("/", ".")
        kernel = arrays[f"params/{unit.path}/conv/kernel"]
        state[f"layers.{place}.weight"] = names_torch.values_to_torch(kernel)
        state[f"layers.{place}.beta"] = arrays[f"params/{unit.path}/bn/bias"]
        state[f"layers.{place}.mean"] = arrays[f"batch_stats/{unit.path}/bn/mean"]
        state[f"layers.{place}.var"] = arrays[f"batch_stats/{unit.path}/bn/var"]
    if names.HEAD_BIAS in arrays:
        state["output.weight"] = arrays[names.HEAD_KERNEL].T
        state["output.bias"] = arrays[names.HEAD_BIAS]
    return state


def scripted(path: Path, state: State) -> Path:
    made, storages = files.tensors(state)
    return files.script(path, nested(made), storages)


@pytest.fixture(scope="module")
def arrays(new_arrays: NewArrays) -> Arrays:
    return new_arrays(classes=1008)


def test_nvidias_archive_is_read(tmp_path: Path, arrays: Arrays) -> None:
    state = nvidia_state(arrays)
    path = scripted(tmp_path / "inception-2015-12-05.pt", state)
    weights = read_narrow(path)
    assert weights.format == "torchscript"
    assert weights.variant == VARIANTS["fid2015"]
    assert weights.variant.preprocessing == "(x-128)/128"
    assert_same(weights.arrays, arrays)
    assert len(weights.used) == 94 * 4 + 2
    assert set(weights.ignored.values()) == {"no tensor"}
    for layer, unit in NVIDIA.items():
        kernel = weights.arrays[f"params/{unit}/conv/kernel"]
        np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), state[f"layers.{layer}.weight"])
        mean = weights.arrays[f"batch_stats/{unit}/bn/mean"]
        np.testing.assert_array_equal(mean, state[f"layers.{layer}.mean"])


def test_nvidias_classifier_is_dropped_where_asked(tmp_path: Path, arrays: Arrays) -> None:
    weights = read_narrow(scripted(tmp_path / "a.pt", nvidia_state(arrays)), head="drop")
    assert weights.classes == 0
    assert weights.ignored["output.weight"] == "classifier: not asked for"


def test_faults_of_nvidias_archive_are_named(tmp_path: Path, arrays: Arrays) -> None:
    state = nvidia_state(arrays)
    del state["layers.mixed_9.tower_mixed_conv.var"]
    state["layers.conv_1.gamma"] = np.ones(16, np.float32)
    state["layers.conv.weight"] = np.ones((16, 4, 3, 3), np.float32)
    path = scripted(tmp_path / "a.pt", state)
    with pytest.raises(WeightsError) as caught:
        read_narrow(path)
    for pattern in (
        r"layers\.mixed_9\.tower_mixed_conv\.var: found none, expected it for batch_stats/Mixed_7b",
        r"layers\.conv_1\.gamma: found an unknown key",
        r"layers\.conv\.weight: found shape \(16, 4, 3, 3\), expected \(16, 3, 3, 3\)",
    ):
        assert caught.match(pattern)


def test_torchvision_scripted_is_read(tmp_path: Path, new_arrays: NewArrays) -> None:
    arrays = new_arrays(classes=4, aux=True, scales=True)
    state = state_of(arrays)
    state["Conv2d_1a_3x3.bn.num_batches_tracked"] = np.array(3, np.int64)
    made, storages = files.tensors(state)
    made["transform_input"] = pickle.NEWTRUE
    path = files.script(tmp_path / "a.pt", nested(made), storages)
    weights = read_narrow(path)
    assert_same(weights.arrays, arrays)
    assert weights.format == "torchscript"
    assert weights.variant == VARIANTS["torchvision"]
    assert weights.notes == (
        "transform_input: set, so that the module takes ImageNet's mean and std",
    )
    assert not torchvision.recognises(path)
    assert not fid.recognises(path)


def test_fid_network_scripted_is_read(tmp_path: Path, arrays: Arrays) -> None:
    weights = read_narrow(scripted(tmp_path / "a.pt", state_of(arrays)))
    assert_same(weights.arrays, arrays)
    assert weights.variant == VARIANTS["fid"]


def test_script_of_another_network(tmp_path: Path) -> None:
    path = scripted(tmp_path / "a.pt", {"layers.conv1.weight": np.ones((2, 3), np.float32)})
    with pytest.raises(WeightsError, match=r"found no layers\.conv\.weight and no Conv2d_1a_3x3"):
        read_narrow(path)


def test_script_that_asks_for_more_than_data(tmp_path: Path) -> None:
    value = files.module("__torch__.A", {"a": files.call("os", "system", files.text("x"))})
    path = files.script(tmp_path / "a.pt", value, {})
    assert torchscript.recognises(path)
    with pytest.raises(WeightsError, match=r"found a pickle that asks for os\.system"):
        read_narrow(path)
