"""TensorFlow Lite's files that are of another network, damaged, or made to harm."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hostile
import tflite_writer as writer
from thyrojax.errors import WeightsError
from thyrojax.weights.formats import tflite
from thyrojax.weights.types import Arrays, Request

SMALL = Request(depth_multiplier=0.05)
FIFTH = "Conv2d_4a_3x3"
Model = dict[str, Any]


@pytest.fixture(scope="module")
def folded(new_arrays: Callable[..., Arrays]) -> Arrays:
    return writer.whole_steps(new_arrays(0.05, classes=4))


@pytest.fixture
def new_file(tmp_path: Path, folded: Arrays) -> Callable[..., Path]:
    """Writes a network with `Builder`'s options; `changes` of its arrays first."""

    def new(changes: Arrays | None = None, **options: Any) -> Path:
        model = writer.Builder(folded | (changes or {}), **options).model
        return writer.write(tmp_path / "new.tflite", model)

    return new


# What is changed in the list of tensors and operators, and what must be said of it.


def operator(model: Model, code: str, number: int = 0) -> dict[str, Any]:
    return [o for o in model["operators"] if o["code"] == code][number]


def tensor(model: Model, name: str) -> dict[str, Any]:
    return next(t for t in model["tensors"] if t["name"] == name)


def option(code: str, number: int, field: int, value: Any) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        operator(model, code, number)["options"][field] = value

    return change


def kernel_shape(model: Model) -> None:
    found = tensor(model, f"{FIFTH}/kernel")
    found["shape"] = (16, 1, 9, 16)


def wide_bias(model: Model) -> None:
    found = tensor(model, f"{FIFTH}/bias")
    found["data"], found["shape"] = np.zeros(17, np.float32), (17,)


def whole_numbers(model: Model) -> None:
    found = tensor(model, f"{FIFTH}/kernel")
    found["data"], found["type"] = found["data"].astype(np.int8), "int8"


def not_finite(model: Model) -> None:
    tensor(model, f"{FIFTH}/kernel")["data"][3, 1, 1, 0] = np.nan


def swapped_branches(model: Model) -> None:
    """The pool's branch of Mixed_6a comes first."""
    found = operator(model, "CONCATENATION", 3)
    found["inputs"].insert(0, found["inputs"].pop())


def one_branch_less(model: Model) -> None:
    operator(model, "CONCATENATION", 2)["inputs"].pop()


def other_input(model: Model) -> None:
    """A branch of Mixed_5c reads the stem's output."""
    stem, block = operator(model, "CONV_2D", 5)["inputs"][0], operator(model, "CONCATENATION", 0)
    for found in model["operators"]:
        if found["code"] == "CONV_2D" and found["inputs"][0] == block["outputs"][0]:
            found["inputs"] = [stem, *found["inputs"][1:]]
            return


def transposed(model: Model) -> None:
    found = operator(model, "CONV_2D", 2)
    found["code"] = "TRANSPOSE"


def loop(model: Model) -> None:
    operator(model, "CONV_2D", 1)["inputs"][0] = operator(model, "CONV_2D", 9)["outputs"][0]


def tensor_beyond(model: Model) -> None:
    operator(model, "CONV_2D", 1)["inputs"][1] = 10**6


def many_operands(model: Model) -> None:
    operator(model, "CONCATENATION", 1)["inputs"] *= 20


def many_concatenations(model: Model) -> None:
    template = operator(model, "CONCATENATION")
    for i in range(200):
        model["tensors"].append({"name": f"more_{i}", "shape": (), "type": "float32"})
        number = len(model["tensors"]) - 1
        model["operators"].append({**template, "outputs": [number]})


def two_of_a_name(model: Model) -> None:
    for i, name in enumerate(("twice#5", "twice", "twice"), start=3):
        model["tensors"][i]["name"] = name


def name_of_lines(model: Model) -> None:
    loop(model)
    model["tensors"][operator(model, "CONV_2D", 1)["outputs"][0]]["name"] = "evil\nname"


def no_kernel(model: Model) -> None:
    del tensor(model, f"{FIFTH}/kernel")["data"]


CHANGES: dict[str, tuple[Callable[[Model], None], str]] = {
    "stride": (option("CONV_2D", 4, 1, ("i", 2)), r"Conv2d_4a_3x3: found strides \(1, 2\)"),
    "dilation": (option("CONV_2D", 4, 4, ("i", 2)), r"Conv2d_4a_3x3: found .*dilations \(1, 2\)"),
    "padding": (option("CONV_2D", 4, 0, ("b", 0)), r"Conv2d_4a_3x3: found .*padding SAME"),
    "ReLU6": (option("CONV_2D", 4, 3, ("b", 3)), r"Conv2d_4a_3x3: found CONV_2D .*bias and ReLU"),
    "no ReLU": (option("CONV_2D", 4, 3, ("b", 0)), r"Conv2d_4a_3x3: found .*, expected a ReLU"),
    "pool's window": (
        option("AVERAGE_POOL_2D", 0, 3, ("i", 5)),
        r"Mixed_5b/pool: found AVERAGE_POOL_2D .*, expected a 3x3 average pool of stride 1",
    ),
    "one pool padded otherwise": (
        option("MAX_POOL_2D", 2, 0, ("b", 0)),
        r"Mixed_6a/pool: found .*padded not at all",
    ),
    "kernel's shape": (kernel_shape, rf"{FIFTH}/kernel.*found shape \(1, 9, 16, 16\)"),
    "bias' width": (wide_bias, rf"{FIFTH}/add.*found shape \(17,\), expected a constant of 16"),
    "numbers without a scale": (whole_numbers, rf"{FIFTH}/kernel: found 0 scales"),
    "not finite": (not_finite, rf"params/{FIFTH}/conv/kernel: found 1 values not finite"),
    "branches in another order": (swapped_branches, r"Mixed_6a/"),
    "branch missing": (one_branch_less, r"Mixed_5d: found CONCATENATION .*expected 4 joined"),
    "branch of another block": (other_input, r"Mixed_5c: found branches that read .* and "),
    "transposed within": (transposed, r"Conv2d_2b_3x3: found TRANSPOSE"),
    "loop": (loop, r"found a tensor used before it is made"),
    "tensor beyond": (tensor_beyond, r"found a tensor beyond the \d+ that there are"),
    "operands": (many_operands, r"found 80 operands, expected at most 64"),
    "concatenations": (many_concatenations, r"found 215 concatenations, expected at most 200"),
    "names": (two_of_a_name, r"twice#5: found two tensors of that name"),
    "no values": (no_kernel, r"Conv2d_4a_3x3: found CONV_2D .*expected a kernel in the file"),
    "line break in a name": (name_of_lines, r"evil\?name\): found a tensor used before"),
    "two graphs": (lambda model: model.update(graphs=2), r"found 2 graphs, expected one"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_not_the_network_is_told(tmp_path: Path, folded: Arrays, name: str) -> None:
    change, expected = CHANGES[name]
    model = writer.Builder({path: array.copy() for path, array in folded.items()}).model
    change(model)
    path = writer.write(tmp_path / "wrong.tflite", model)
    hostile.assert_refused(lambda p: tflite.read(p, SMALL), path, expected)


def test_all_faults_come_at_once(tmp_path: Path, folded: Arrays) -> None:
    model = writer.Builder(folded).model
    for number in (3, 30, 60):
        option("CONV_2D", number, 2, ("i", 7))(model)
    with pytest.raises(WeightsError) as caught:
        tflite.read(writer.write(tmp_path / "wrong.tflite", model), SMALL)
    assert str(caught.value).count("found strides (7, 1)") == 3


def test_another_width_is_told(new_file: Callable[..., Path]) -> None:
    with pytest.raises(
        WeightsError, match=r"Mixed_7c/branch1x1/kernel.*found shape .*and \d+ more"
    ):
        tflite.read(new_file(), Request())


def test_another_network_is_told(tmp_path: Path, folded: Arrays) -> None:
    model = writer.Builder(folded).model
    n_operators = len(model["operators"])
    for i in (60, 61, 62):
        option("CONV_2D", i, 3, ("b", 3))(model)
    block = operator(model, "CONCATENATION", 8)
    block["inputs"] = block["inputs"][:1]
    with pytest.raises(WeightsError, match=rf"{n_operators} operators and 94 convolutions, of wh"):
        tflite.read(writer.write(tmp_path / "other.tflite", model), SMALL)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\0\0TFL3",
        struct.pack("<I4s", 2**31, b"TFL3"),
        struct.pack("<I4si", 8, b"TFL3", 2**30),
        struct.pack("<I4si", 8, b"TFL3", -8),
        struct.pack("<I4siHHH", 8, b"TFL3", -4, 60, 60, 4),
    ],
)
def test_scraps_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scrap.tflite"
    path.write_bytes(content)
    assert tflite.recognises(path) == (content[4:8] == b"TFL3")
    if content:
        with pytest.raises(WeightsError, match=r"scrap\.tflite: found "):
            tflite.read(path, SMALL)


def test_file_cut_off(new_file: Callable[..., Path]) -> None:
    path = new_file()
    whole = path.read_bytes()
    for length in (9, 100, 2000, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            tflite.read(path, SMALL)


def test_vector_of_vast_length(new_file: Callable[..., Path]) -> None:
    """The shape of the first tensor claims four thousand million sizes."""
    path = new_file()
    content = path.read_bytes()
    shape = struct.pack("<Iiiii", 4, 1, 75, 75, 3)
    assert shape in content
    path.write_bytes(content.replace(shape, b"\xff\xff\xff\xff" + shape[4:]))
    with pytest.raises(WeightsError, match=r"found 17179869180 bytes at byte"):
        tflite.read(path, SMALL)


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_damaged_files_are_read_or_refused(new_file: Callable[..., Path], kind: str) -> None:
    path = new_file(kind=kind)
    size = path.stat().st_size
    counts = hostile.fuzz(path, lambda p: tflite.read(p, SMALL), n=30, header=size // 4)
    assert sum(counts.values()) == 30
    assert counts["refused"] > 3
