"""torchvision's state dicts: its names, what people wrap them in, and what we write."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hostile
import torch_files as files
from thyrojax.errors import WeightsError
from thyrojax.weights import VARIANTS, Weights, names, names_torch, read
from thyrojax.weights.formats import fid, torchscript, torchvision
from thyrojax.weights.types import Arrays

NARROW = 0.05
NewArrays = Callable[..., Arrays]
State = dict[str, np.ndarray]


def state_of(arrays: Arrays, prefix: str = "", counters: bool = True) -> State:
    """A state dict in torchvision's order of a unit's arrays."""
    state: State = {}
    for path, array in arrays.items():
        key = prefix + names_torch.to_torch(path)
        state[key] = names_torch.values_to_torch(array)
        if counters and key.endswith("running_var"):
            state[key.replace("running_var", "num_batches_tracked")] = np.array(7, np.int64)
    return state


def read_narrow(path: Path, **options: Any) -> Weights:
    return read(path, depth_multiplier=NARROW, **options)


def saved(path: Path, state: State, dtype: str = "float32") -> Path:
    made, storages = files.tensors(state, dtype)
    return files.archive(path, files.ordered(made), storages)


def assert_same(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        assert found[path].dtype == np.float32
        assert found[path].tobytes() == array.tobytes(), path


@pytest.fixture(scope="module")
def arrays(new_arrays: NewArrays) -> Arrays:
    return new_arrays(classes=5, aux=True, scales=True)


@pytest.fixture(scope="module")
def trunk(new_arrays: NewArrays) -> Arrays:
    return new_arrays(scales=True)


# Of torchvision/models/inception.py: names, and shapes as torch counts them (OIHW).
KNOWN = {
    "Conv2d_1a_3x3.conv.weight": ("params/Conv2d_1a_3x3/conv/kernel", (32, 3, 3, 3)),
    "Conv2d_1a_3x3.bn.running_mean": ("batch_stats/Conv2d_1a_3x3/bn/mean", (32,)),
    "Conv2d_4a_3x3.bn.bias": ("params/Conv2d_4a_3x3/bn/bias", (192,)),
    "Mixed_5b.branch5x5_2.conv.weight": (
        "params/Mixed_5b/branch5x5_2/conv/kernel",
        (64, 48, 5, 5),
    ),
    "Mixed_6c.branch7x7dbl_2.conv.weight": (
        "params/Mixed_6c/branch7x7dbl_2/conv/kernel",
        (160, 160, 7, 1),
    ),
    "Mixed_6c.branch7x7_2.conv.weight": (
        "params/Mixed_6c/branch7x7_2/conv/kernel",
        (160, 160, 1, 7),
    ),
    "Mixed_7a.branch7x7x3_4.bn.weight": ("params/Mixed_7a/branch7x7x3_4/bn/scale", (192,)),
    "Mixed_7c.branch3x3_2b.conv.weight": (
        "params/Mixed_7c/branch3x3_2b/conv/kernel",
        (384, 384, 3, 1),
    ),
    "Mixed_7c.branch_pool.bn.running_var": ("batch_stats/Mixed_7c/branch_pool/bn/var", (192,)),
    "AuxLogits.conv1.conv.weight": ("params/AuxLogits/conv1/conv/kernel", (768, 128, 5, 5)),
    "AuxLogits.fc.weight": ("params/AuxLogits/fc/kernel", (1000, 768)),
    "fc.weight": ("params/fc/kernel", (1000, 2048)),
    "fc.bias": ("params/fc/bias", (1000,)),
}


def test_names_and_shapes_are_torchvisions() -> None:
    shapes = names.trunk_shapes() | names.head_shapes(1000) | names.aux_shapes(1000)
    for key, (path, shape) in KNOWN.items():
        assert names_torch.to_torch(path) == key
        assert names_torch.shape_to_torch(shapes[path]) == shape


@pytest.mark.parametrize("layout", ["archive", "stream"])
def test_state_dict_is_read(tmp_path: Path, arrays: Arrays, layout: str) -> None:
    made, storages = files.tensors(state_of(arrays))
    path = tmp_path / "a.bin"
    dtypes = {str(i): "int64" for i, key in enumerate(made) if key.endswith("tracked")}
    if layout == "archive":
        files.archive(path, files.ordered(made), storages)
    else:
        files.stream(path, files.ordered(made), storages, dtypes)
    weights = read_narrow(path)
    assert_same(weights.arrays, arrays)
    assert weights.format == "torchvision"
    assert weights.variant == VARIANTS["torchvision"]
    assert weights.classes == 5
    assert weights.has_aux_head
    assert len(weights.used) == len(arrays)
    assert set(weights.ignored.values()) == {"counter of BatchNorm's training steps"}
    assert len(weights.ignored) == 96


def test_kernels_are_turned(tmp_path: Path, trunk: Arrays) -> None:
    state = state_of(trunk)
    kernel = np.arange(16 * 3 * 3 * 3, dtype=np.float32).reshape(16, 3, 3, 3)  # OIHW
    state["Conv2d_1a_3x3.conv.weight"] = kernel
    found = read_narrow(saved(tmp_path / "a.pth", state)).arrays[names.FIRST_KERNEL]
    assert found.shape == (3, 3, 3, 16)
    assert found[1, 2, 0, 15] == kernel[15, 0, 1, 2]


def test_old_files_have_no_counters(tmp_path: Path, trunk: Arrays) -> None:
    weights = read_narrow(saved(tmp_path / "a.pth", state_of(trunk, counters=False)))
    assert_same(weights.arrays, trunk)
    assert not weights.ignored


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "net.base."])
def test_prefix_is_found(tmp_path: Path, trunk: Arrays, prefix: str) -> None:
    weights = read_narrow(saved(tmp_path / "a.pth", state_of(trunk, prefix)))
    assert_same(weights.arrays, trunk)
    assert weights.used[0] == f"{prefix}Conv2d_1a_3x3.conv.weight"


@pytest.mark.parametrize("wrapper", ["state_dict", "weights"])
def test_checkpoint_is_searched(tmp_path: Path, trunk: Arrays, wrapper: str) -> None:
    made, storages = files.tensors(state_of(trunk, "module."))
    slots = pickle.EMPTY_DICT + files.number(0) + files.table(
        {"exp_avg": files.tensor("0", state_of(trunk)["Conv2d_1a_3x3.conv.weight"].shape)}
    ) + pickle.SETITEM  # fmt: skip
    groups = pickle.EMPTY_LIST + files.table({"lr": files.number(1)}) + pickle.APPEND
    value = files.table(
        {
            "epoch": files.number(3),
            wrapper: files.ordered(made),
            "optimizer": files.table({"state": slots, "param_groups": groups}),
        }
    )
    weights = read_narrow(files.archive(tmp_path / "a.pth", value, storages))
    assert_same(weights.arrays, trunk)
    prefix = f"{wrapper}.module."
    outside = f"outside of the network {prefix!r}"
    assert weights.used[0] == f"{prefix}Conv2d_1a_3x3.conv.weight"
    others = {key: why for key, why in weights.ignored.items() if not key.startswith(wrapper)}
    assert others == {
        "epoch": "no tensor",
        "optimizer.param_groups": "no tensor",
        "optimizer.state.0.exp_avg": outside,
    }


@pytest.mark.parametrize("average", ["model_ema", "state_dict_ema"])
def test_plain_network_is_preferred_to_its_average(
    tmp_path: Path, arrays: Arrays, trunk: Arrays, average: str
) -> None:
    states = {average: state_of(arrays), "model": state_of(trunk)}
    flat = {f"{name}/{key}": v for name, state in states.items() for key, v in state.items()}
    made, storages = files.tensors(flat)
    value = files.table(
        {
            name: files.ordered({key: made[f"{name}/{key}"] for key in state})
            for name, state in states.items()
        }
    )
    path = files.archive(tmp_path / "a.pth", value, storages)
    weights = read_narrow(path)
    assert_same(weights.arrays, trunk)
    assert weights.notes == (f"network: taken from 'model.', not from '{average}.'",)
    copies = [key for key, why in weights.ignored.items() if why == "another copy of the network"]
    assert len(copies) == len(states[average])


def test_average_alone_is_read_and_said(tmp_path: Path, trunk: Arrays) -> None:
    made, storages = files.tensors(state_of(trunk))
    value = files.table({"model_ema": files.ordered(made)})
    weights = read_narrow(files.archive(tmp_path / "a.pth", value, storages))
    assert_same(weights.arrays, trunk)
    assert weights.notes == (
        "network: 'model_ema.', an average over training, is all the file has",
    )


def test_optimizer_slots_by_name_are_no_second_network(tmp_path: Path, trunk: Arrays) -> None:
    state = state_of(trunk, "net.") | state_of(trunk, "optimizer.exp_avg.")
    weights = read_narrow(saved(tmp_path / "a.pth", state))
    assert_same(weights.arrays, trunk)
    assert weights.ignored["optimizer.exp_avg.Conv2d_1a_3x3.conv.weight"] == "optimizer slot"


def test_half_precision_becomes_single(tmp_path: Path, trunk: Arrays) -> None:
    weights = read_narrow(saved(tmp_path / "a.pth", state_of(trunk), "float16"))
    half = {path: array.astype(np.float16).astype(np.float32) for path, array in trunk.items()}
    assert_same(weights.arrays, half)


def test_heads_are_dropped_where_asked(tmp_path: Path, arrays: Arrays) -> None:
    weights = read_narrow(saved(tmp_path / "a.pth", state_of(arrays)), head="drop")
    assert weights.classes == 0
    assert not weights.has_aux_head
    assert weights.ignored["fc.weight"] == "classifier: not asked for"
    assert weights.ignored["AuxLogits.conv0.bn.num_batches_tracked"] == "classifier: not asked for"


def test_another_networks_head_is_ignored(tmp_path: Path, trunk: Arrays) -> None:
    state = state_of(trunk)
    state |= {"fc.0.weight": np.ones((9, 108), np.float32), "fc.0.bias": np.ones(9, np.float32)}
    weights = read_narrow(saved(tmp_path / "a.pth", state))
    assert_same(weights.arrays, trunk)
    assert weights.ignored["fc.0.weight"].startswith("foreign head")


def test_grey_network_is_read(tmp_path: Path, new_arrays: NewArrays) -> None:
    arrays = new_arrays(channels=1)
    assert read_narrow(saved(tmp_path / "a.pth", state_of(arrays))).channels == 1


# What is wrong is said, all at once.


def removed(state: State) -> None:
    del state["Mixed_5b.branch1x1.conv.weight"], state["Mixed_7c.branch_pool.bn.bias"]


def added(state: State) -> None:
    state["Mixed_5b.branch1x1.conv.bias"] = np.zeros(16, np.float32)
    state["Mixed_8a.conv.weight"] = np.zeros(16, np.float32)


def wrong_shape(state: State) -> None:
    state["Conv2d_2a_3x3.conv.weight"] = np.zeros((3, 3, 16, 16), np.float32)
    state["fc.weight"] = state["fc.weight"].T


def not_finite(state: State) -> None:
    kernel = state["Conv2d_2a_3x3.conv.weight"].copy()
    kernel[0, 0, 0, :2] = np.nan
    state["Conv2d_2a_3x3.conv.weight"] = kernel
    state["Mixed_6a.branch3x3.bn.running_var"] = np.full(19, -1.0, np.float32)


def whole_numbers(state: State) -> None:
    state["Conv2d_2a_3x3.bn.bias"] = np.zeros(16, np.int64)


def second_network(state: State) -> None:
    state |= {f"second.{key}": value for key, value in state.items()}


def other_network(state: State) -> None:
    for key in list(state):
        state[key.replace("Conv2d_1a_3x3", "conv1")] = state.pop(key)


CHANGES: dict[str, tuple[Callable[[State], None], list[str]]] = {
    "missing": (
        removed,
        [
            r"Mixed_5b\.branch1x1\.conv\.weight: found none",
            r"Mixed_7c\.branch_pool\.bn\.bias: found none",
        ],
    ),
    "unknown": (
        added,
        [
            r"Mixed_5b\.branch1x1\.conv\.bias: found an unknown key",
            r"Mixed_8a\.conv\.weight: found an unknown key",
        ],
    ),
    "shapes": (
        wrong_shape,
        [r"Conv2d_2a_3x3\.conv\.weight: found shape \(3, 3, 16, 16\), expected \(16, 16, 3, 3\)"],
    ),
    "values": (
        not_finite,
        [
            r"Conv2d_2a_3x3\.conv\.weight: found 2 values not finite",
            r"Mixed_6a\.branch3x3\.bn\.running_var: found a negative variance",
        ],
    ),
    "whole numbers": (whole_numbers, [r"Conv2d_2a_3x3\.bn\.bias: found values of type int64"]),
    "two networks": (second_network, [r"found networks under prefixes '' and 'second\.'"]),
    "another network": (other_network, [r"found networks under prefixes none, expected one"]),
}


@pytest.mark.parametrize("fault", CHANGES)
def test_fault_in_the_content_is_named(tmp_path: Path, arrays: Arrays, fault: str) -> None:
    change, expected = CHANGES[fault]
    state = state_of(arrays)
    change(state)
    path = saved(tmp_path / "a.pth", state)
    hostile.assert_refused(read_narrow, path, *expected)


def test_damage_of_one_storage_is_told_by_its_key(tmp_path: Path, trunk: Arrays) -> None:
    made, storages = files.tensors(state_of(trunk))
    storages["0"] = storages["0"][:-4]
    path = files.archive(tmp_path / "a.pth", files.ordered(made), storages)
    with pytest.raises(WeightsError, match=r"Conv2d_1a_3x3\.conv\.weight: found a storage of 1724"):
        read_narrow(path)


@pytest.mark.parametrize("value", [files.number(3), files.text("x"), b"]", b"N"])
def test_file_of_something_else(tmp_path: Path, value: bytes) -> None:
    path = files.archive(tmp_path / "a.pth", value, {})
    with pytest.raises(WeightsError, match=r"found networks under prefixes none"):
        read_narrow(path)


def test_hostile_file_is_refused_by_the_whole_reader(tmp_path: Path) -> None:
    path = files.archive(tmp_path / "a.pth", files.call("os", "system", files.text("x")), {})
    assert torchvision.recognises(path)
    assert not fid.recognises(path)
    assert not torchscript.recognises(path)
    with pytest.raises(WeightsError, match=r"asks for os\.system, expected tensors and plain"):
        read_narrow(path)


def test_description_that_cannot_be_read(tmp_path: Path, trunk: Arrays) -> None:
    made, storages = files.tensors(state_of(trunk))
    metadata = files.table({"_metadata": files.ordered({"thyrojax": files.text("{")})})
    value = files.ordered(made) + metadata + pickle.BUILD
    path = files.archive(tmp_path / "a.pth", value, storages)
    with pytest.raises(WeightsError, match=r"_metadata thyrojax: found a description that cannot"):
        read_narrow(path)
    odd = files.table({"_metadata": files.number(3)})
    value = files.ordered(made) + odd + pickle.BUILD
    assert_same(read_narrow(files.archive(tmp_path / "b.pth", value, storages)).arrays, trunk)
