"""safetensors under our names and under timm's: every key accounted for, damage told."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import hostile
from thyrojax.errors import WeightsError
from thyrojax.weights import VARIANTS, Weights, names, read, write
from thyrojax.weights.types import Arrays

NewArrays = Callable[..., Arrays]
NARROW: dict[str, Any] = {"depth_multiplier": 0.05}
FIRST = names.FIRST_KERNEL


@pytest.fixture(scope="module")
def arrays(new_arrays: NewArrays) -> Arrays:
    return new_arrays(classes=3, aux=True, scales=True)


def written(folder: Path, arrays: Arrays, to: str, **metadata: Any) -> Path:
    given = Weights(arrays, VARIANTS["gluon"], "none", (), {}, Path("nowhere"), "", 0.05, metadata)
    path = folder / f"{to}.safetensors"
    write(given, path, to)
    return path


def test_our_file_is_plain_safetensors_that_says_what_it_is(tmp_path: Path, arrays: Arrays) -> None:
    path = written(tmp_path, arrays, "flax", labels=["a", "b", "c"])
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert load_file(path).keys() == arrays.keys()
    assert metadata["format"] == "flax"
    assert metadata["pooling"] == "padded"
    assert metadata["preprocessing"] == "(x/255-mean)/std"
    assert metadata["classes"] == "3"
    assert metadata["source_file"] == "nowhere"
    described = json.loads(metadata["thyrojax"])
    assert described["labels"] == ["a", "b", "c"]
    assert described["variant"]["epsilon"] == 1e-3


def test_timms_file_has_timms_names_layouts_and_counters(tmp_path: Path, arrays: Arrays) -> None:
    state = load_file(written(tmp_path, arrays, "timm"))
    kernel = state["Mixed_7b.branch3x3dbl_3a.conv.weight"]
    expected = arrays["params/Mixed_7b/branch3x3dbl_3a/conv/kernel"]
    np.testing.assert_array_equal(kernel, expected.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(state["fc.weight"], arrays["params/fc/kernel"].T)
    np.testing.assert_array_equal(
        state["AuxLogits.conv0.bn.running_var"], arrays["batch_stats/AuxLogits/conv0/bn/var"]
    )
    counter = state["Conv2d_1a_3x3.bn.num_batches_tracked"]
    assert (counter.dtype, counter.shape) == (np.int64, ())
    assert len(state) == 96 * 6 + 4
    with safe_open(tmp_path / "timm.safetensors", framework="numpy") as file:
        assert file.metadata()["format"] == "pt"


def test_files_of_others_have_the_formats_variant(tmp_path: Path, arrays: Arrays) -> None:
    for to in ("flax", "timm"):
        state = load_file(written(tmp_path, arrays, to))
        bare = tmp_path / f"bare-{to}.safetensors"
        save_file(state, bare)
        found = read(bare, **NARROW)
        assert found.format == to
        assert found.variant == VARIANTS["keras" if to == "flax" else "timm"]
        assert all(found.arrays[name].tobytes() == a.tobytes() for name, a in arrays.items())
        assert read(bare, variant="gluon", **NARROW).variant == VARIANTS["gluon"]


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_are_read(tmp_path: Path, arrays: Arrays, dtype: str) -> None:
    state = {name: array.astype(dtype) for name, array in arrays.items()}
    save_file(state, tmp_path / "x.safetensors")
    found = read(tmp_path / "x.safetensors", **NARROW).arrays
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array.astype(np.float32))


def test_brain_floats_are_read(tmp_path: Path, arrays: Arrays) -> None:
    path = written(tmp_path, arrays, "flax")
    header, data = split(path)
    begin, end = header[FIRST]["data_offsets"]
    values = np.frombuffer(data[begin:end], np.uint32)
    half = (values >> 16).astype(np.uint16)  # a bfloat16 is the upper half of a float32
    header[FIRST] = {
        "dtype": "BF16",
        "shape": header[FIRST]["shape"],
        "data_offsets": [len(data), len(data) + half.nbytes],
    }
    # What the old values leave behind must be covered by something.
    header["filler"] = {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
    join(path, header, data + half.tobytes())
    with pytest.raises(WeightsError, match=r"filler: found an unknown array, expected none"):
        read(path, **NARROW)
    del header["filler"]
    kept = {name: load[0] for name, load in pack(header, data + half.tobytes()).items()}
    repacked = tmp_path / "packed.safetensors"
    write_packed(repacked, kept)
    found = read(repacked, **NARROW).arrays[FIRST]
    expected = (half.astype(np.uint32) << 16).view(np.float32).reshape(found.shape)
    np.testing.assert_array_equal(found, expected)


Header = dict[str, Any]


def split(path: Path) -> tuple[Header, bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(path: Path, header: Header | bytes, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def pack(header: Header, data: bytes) -> dict[str, tuple[tuple[str, list[int], bytes]]]:
    return {
        name: ((entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]),)
        for name, entry in header.items()
        if name != "__metadata__"
    }


def write_packed(path: Path, entries: dict[str, tuple[str, list[int], bytes]]) -> None:
    header: Header = {}
    data = b""
    for name, (dtype, shape, content) in entries.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += content
    join(path, header, data)


def lie_about_the_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 2**23) + content[8:])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def overlap(path: Path) -> None:
    header, data = split(path)
    header[names.HEAD_BIAS]["data_offsets"] = [0, 12]
    join(path, header, data)


def lie_about_a_shape(path: Path) -> None:
    header, data = split(path)
    header[FIRST]["shape"] = [2**40, 2**40]
    join(path, header, data)


def not_finite(path: Path) -> None:
    header, data = split(path)
    begin, end = header[FIRST]["data_offsets"]
    join(path, header, data[:begin] + b"\xff" * (end - begin) + data[end:])


def rename(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        header, data = split(path)
        header = {new if name == old else name: entry for name, entry in header.items()}
        join(path, header, data)

    return change


def describe_with(text: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        header, data = split(path)
        header["__metadata__"]["thyrojax"] = text
        join(path, header, data)

    return change


def repeat(path: Path) -> None:
    header, data = split(path)
    text = json.dumps(header)
    twice = json.dumps({FIRST: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})
    join(path, (twice[:-1] + "," + text[1:]).encode(), data)


def no_classes(path: Path) -> None:
    header, data = split(path)
    header[names.HEAD_BIAS]["shape"] = [0]
    header[names.HEAD_KERNEL]["shape"] = [0, 3]
    entries = {name: load[0] for name, load in pack(header, data).items()}
    for name in (names.HEAD_BIAS, names.HEAD_KERNEL):
        entries[name] = (*entries[name][:2], b"")
    write_packed(path, entries)


def without_bias(path: Path) -> None:
    entries = {name: load[0] for name, load in pack(*split(path)).items()}
    del entries[names.HEAD_BIAS]
    write_packed(path, entries)


def too_large_for_single_precision(path: Path) -> None:
    entries = {name: load[0] for name, load in pack(*split(path)).items()}
    _, shape, content = entries[FIRST]
    values = np.frombuffer(content, np.float32).astype(np.float64)
    values[7] = 1e300
    entries[FIRST] = ("F64", shape, values.tobytes())
    write_packed(path, entries)


def long_header(path: Path) -> None:
    header, data = split(path)
    filler = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    join(path, {**header, **{f"{i:07d}": filler for i in range(26000)}}, data)


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "header that lies": (lie_about_the_header, r"damaged safetensors file|bytes that begin with"),
    "cut off": (cut, r"found a damaged safetensors file"),
    "overlap": (overlap, r"found a damaged safetensors file"),
    "shape that lies": (lie_about_a_shape, r"found a damaged safetensors file"),
    "not finite": (not_finite, r"found 432 values not finite, expected numbers"),
    "missing": (
        rename("params/Mixed_5b/branch1x1/bn/bias", "params/Mixed_5b/branch1x1/bn/shift"),
        r"branch1x1/bn/shift: found an unknown array.*branch1x1/bn/bias: found none",
    ),
    "description of no JSON": (describe_with("{"), r"thyrojax: found a description that cannot"),
    "description too deep": (describe_with("[" * 10**5), r"found a description that cannot"),
    "variant of another type": (
        describe_with('{"variant": {"preprocessing": {"a": 1}}}'),
        r"preprocessing: found \{'a': 1\}, expected one of|found a description that cannot",
    ),
    "two of one name": (repeat, r"damaged safetensors file \(two entries params/Conv2d_1a_3x3/co"),
    "no classes": (no_classes, r"params/fc/bias: found shape \(0,\), expected \(1,\)"),
    "no bias": (without_bias, r"params/fc/bias: found none, expected an array of shape \(3,\)"),
    "too large a number": (too_large_for_single_precision, r"found 1 values not finite"),
    "long header": (long_header, r"found more than 8192 arrays, expected fewer"),
    "unknown variant": (
        describe_with('{"variant": {"pooling": "torus"}}'),
        r"pooling: found 'torus', expected valid or padded|found a description that cannot",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, arrays: Arrays, name: str) -> None:
    damage, message = HOSTILE[name]
    path = written(tmp_path, arrays, "flax")
    damage(path)
    hostile.assert_refused(lambda p: read(p, **NARROW), path, message)


def test_all_faults_of_a_state_dict_are_told_at_once(tmp_path: Path, arrays: Arrays) -> None:
    path = written(tmp_path, arrays, "timm")
    entries = {name: load[0] for name, load in pack(*split(path)).items()}
    del entries["Mixed_6c.branch_pool.bn.bias"]
    entries["Mixed_6c.branch_pool.bn.shift"] = ("F32", [1], bytes(4))
    entries["Conv2d_2a_3x3.conv.weight"] = ("F32", [1, 1, 3, 3], bytes(36))
    entries["Conv2d_2b_3x3.bn.weight"] = ("I64", [16], bytes(128))
    write_packed(path, entries)
    with pytest.raises(WeightsError) as caught:
        read(path, **NARROW)
    for fault in (
        "Mixed_6c.branch_pool.bn.shift: found an unknown key, expected none",
        "Mixed_6c.branch_pool.bn.bias: found none, expected it for params/Mixed_6c/branch_pool/bn/",
        "Conv2d_2a_3x3.conv.weight: found shape (1, 1, 3, 3), expected (16, 16, 3, 3)",
        "Conv2d_2b_3x3.bn.weight: found values of type int64, expected floats",
    ):
        assert fault in str(caught.value)


def test_classifier_without_its_bias_is_a_fault(tmp_path: Path, arrays: Arrays) -> None:
    path = written(tmp_path, arrays, "timm")
    entries = {name: load[0] for name, load in pack(*split(path)).items()}
    del entries["fc.bias"]
    write_packed(path, entries)
    with pytest.raises(WeightsError, match=r"fc\.bias: found none, expected it for params/fc/bias"):
        read(path, **NARROW)


@pytest.mark.parametrize("multiplier", [0.0, -1.0, float("nan"), float("inf")])
def test_width_that_cannot_be_is_told(tmp_path: Path, multiplier: float) -> None:
    with pytest.raises(WeightsError, match=r"depth multiplier: found .*, expected a number above"):
        read(tmp_path, depth_multiplier=multiplier)


def test_foreign_heads_are_ignored_by_name(tmp_path: Path, arrays: Arrays) -> None:
    path = written(tmp_path, arrays, "timm")
    entries = {name: load[0] for name, load in pack(*split(path)).items()}
    entries["fc.1.weight"] = entries.pop("fc.weight")
    entries["fc.1.bias"] = entries.pop("fc.bias")
    write_packed(path, entries)
    found = read(path, **NARROW)
    assert found.classes == 0
    assert found.ignored["fc.1.weight"] == "foreign head"
    dropped = read(written(tmp_path / "b", arrays, "timm"), head="drop", **NARROW)
    assert dropped.ignored["AuxLogits.fc.bias"] == "classifier: not asked for"
    assert dropped.arrays.keys() == names.trunk_shapes(0.05).keys()
    ours = read(written(tmp_path / "c", arrays, "flax"), head="drop", **NARROW)
    assert ours.arrays.keys() == dropped.arrays.keys()
    assert ours.ignored["params/fc/kernel"] == "classifier: not asked for"


def test_writing_twice_gives_the_same_bytes(tmp_path: Path, arrays: Arrays) -> None:
    for to in ("flax", "timm"):
        first, second = (written(tmp_path / folder, arrays, to) for folder in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_network_of_another_width_is_called_that(tmp_path: Path, arrays: Arrays) -> None:
    with pytest.raises(WeightsError, match=r"found a network of another width, expected depth_mul"):
        read(written(tmp_path, arrays, "flax"))


@pytest.mark.parametrize("to", ["flax", "timm"])
def test_damaged_files_are_read_or_refused(tmp_path: Path, new_arrays: NewArrays, to: str) -> None:
    path = written(tmp_path, new_arrays(), to)
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    counts = hostile.fuzz(path, lambda file: read(file, **NARROW), n=150, header=length)
    assert sum(counts.values()) == 150
    assert counts["refused"] > 50
