"""Files of torch.save, read as data: what torch writes, and what others make of it."""

from __future__ import annotations

import contextlib
import pickle
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

import torch_files as files
from thyrojax.weights.formats import restricted_pickle, torch_file

VALUES = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)


# What torch writes.


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("layout", ["archive", "stream"])
def test_floats_of_any_size_and_order_are_read(
    tmp_path: Path, layout: str, dtype: str, order: str
) -> None:
    value = files.ordered({"a": files.tensor("7", VALUES.shape, dtype)})
    storages = {"7": files.content(VALUES, dtype, order)}
    if layout == "archive":
        big = {"byteorder": b"big"} if order == ">" else None
        path = files.archive(tmp_path / "a.pth", value, storages, big)
    else:
        path = files.stream(tmp_path / "a.pth", value, storages, {"7": dtype}, order)
    assert torch_file.kind(path) == layout
    found = files.read_all(path)["a"]
    assert found.dtype == np.float32
    tolerance = {"float16": 1e-3, "bfloat16": 1e-2}.get(dtype, 0)
    np.testing.assert_allclose(found, VALUES, rtol=tolerance)


def test_views_share_a_storage(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32)
    made = {
        "whole": files.tensor("0", (24,)),
        "turned": files.tensor("0", (3, 2), n=24, offset=4, strides=(1, 3)),
        "same": files.tensor("0", (2, 3), n=24, offset=23, strides=(0, 0)),
        "nothing": files.tensor("0", (0, 3), n=24),
        "scalar": files.tensor("0", (), n=24, offset=5),
    }
    for make in (files.archive, files.stream):
        found = files.read_all(
            make(tmp_path / "a.pth", files.ordered(made), {"0": values.tobytes()})
        )
        np.testing.assert_array_equal(found["whole"], values)
        np.testing.assert_array_equal(found["turned"], [[4, 7], [5, 8], [6, 9]])
        np.testing.assert_array_equal(found["same"], np.full((2, 3), 23))
        assert found["nothing"].shape == (0, 3)
        assert found["scalar"] == 5


def test_archive_packed_again_with_compression_is_read(tmp_path: Path) -> None:
    data = np.ones(24, np.float32).tobytes()
    path = files.archive_of_one(
        tmp_path / "a.pth", files.tensor("0", (24,)), data, compression=zipfile.ZIP_DEFLATED
    )
    np.testing.assert_array_equal(files.read_all(path)["a"], np.ones(24))


def test_archive_with_numbers_of_64_bits_is_read(tmp_path: Path) -> None:
    """As torch writes every archive: the directory's place is in a record of its own."""
    path = files.archive_of_one(tmp_path / "a.pth", files.tensor("0", (24,)), VALUES.tobytes())
    whole = path.read_bytes()
    end = len(whole) - 22
    count, size, begin = struct.unpack_from("<HLL", whole, end + 10)
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, begin)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(whole[:end] + record + locator + last)
    np.testing.assert_array_equal(files.read_all(path)["a"], VALUES.ravel())


def test_archive_without_checksums_is_read(tmp_path: Path) -> None:
    """`torch.serialization.set_crc32_options(False)` leaves them 0."""
    path = files.archive_of_one(tmp_path / "a.pth", files.tensor("0", (24,)), VALUES.tobytes())
    content = path.read_bytes()
    for data in (VALUES.tobytes(), b"little", b"3\n"):
        content = content.replace(struct.pack("<L", zlib.crc32(data)), bytes(4))
    path.write_bytes(content)
    np.testing.assert_array_equal(files.read_all(path)["a"], VALUES.ravel())


def test_python_2_wrote_text_as_bytes_and_dicts_as_pairs(tmp_path: Path) -> None:
    pair = b"]q\x01(U\x01aq\x02" + files.tensor("0", (24,)) + b"e"
    value = b"ccollections\nOrderedDict\n]q\x00(" + pair + b"e\x85R"
    path = files.stream(tmp_path / "a.pth", value, {"0": VALUES.tobytes()})
    np.testing.assert_array_equal(files.read_all(path)["a"], VALUES.ravel())


def test_newer_protocols_and_parameters_are_read(tmp_path: Path) -> None:
    parameter = files.call(
        "torch._utils",
        "_rebuild_parameter",
        files.tensor("0", (24,)),
        pickle.NEWTRUE,
        files.call("collections", "OrderedDict"),
    )
    framed = pickle.PROTO + b"\x04" + pickle.FRAME + bytes(8)
    value = framed + pickle.EMPTY_DICT + pickle.MEMOIZE + pickle.SHORT_BINUNICODE + b"\x01a"
    value += parameter + pickle.SETITEM
    path = files.archive(tmp_path / "a.pth", value, {"0": VALUES.tobytes()})
    np.testing.assert_array_equal(files.read_all(path)["a"], VALUES.ravel())


def test_checkpoint_is_told_apart_by_paths(tmp_path: Path) -> None:
    """What holds no tensors is named once; objects of harmless classes are never made."""
    namespace = files.name("argparse", "Namespace") + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    inner = {"b": files.tensor("0", (24,)), "c": files.number(3)}
    value = files.table(
        {
            "epoch": files.number(7),
            "args": namespace + files.table({"lr": files.number(1)}) + pickle.BUILD,
            "best": files.call(
                "numpy.core.multiarray",
                "scalar",
                files.call("numpy", "dtype", files.text("f8")),
                files.call("_codecs", "encode", files.text("x" * 8), files.text("latin1")),
            ),
            "history": pickle.EMPTY_LIST + pickle.MARK + files.number(1) * 9 + pickle.APPENDS,
            "net": files.ordered({"a": files.tensor("0", (24,)), "more": files.table(inner)}),
            "hooks": files.name("pytorch_lightning.x", "Y")
            + pickle.EMPTY_TUPLE
            + pickle.NEWOBJ
            + files.table({"t": files.tensor("0", (24,))})
            + pickle.BUILD,
            "slots": pickle.EMPTY_DICT
            + files.number(0)
            + files.tensor("0", (24,))
            + pickle.SETITEM,
        }
    )
    tree = torch_file.read(files.archive(tmp_path / "a.pth", value, {"0": bytes(96)})).tree
    assert set(tree.tensors) == {"net.a", "net.more.b", "slots.0"}
    assert tree.others == {
        "epoch": "no tensor",
        "args": "an object of argparse.Namespace",
        "best": "an object of numpy.core.multiarray.scalar",
        "history": "no tensor",
        "net.more.c": "no tensor",
        "hooks.1.t": "within an object of pytorch_lightning.x.Y",
        "hooks.0": "no tensor",
    }


def test_same_object_twice_is_named(tmp_path: Path) -> None:
    value = (
        pickle.EMPTY_DICT
        + files.text("a")
        + files.ordered({"x": files.tensor("0", (24,))})
        + pickle.BINPUT
        + b"\x00"
        + pickle.SETITEM
        + files.text("b")
        + pickle.BINGET
        + b"\x00"
        + pickle.SETITEM
    )
    tree = torch_file.read(files.archive(tmp_path / "a.pth", value, {"0": bytes(96)})).tree
    assert set(tree.tensors) == {"a.x"}
    assert tree.others == {"b": "the same object as elsewhere"}


# What hostile pickles do. None of them may touch the file that they name.

MARKER = "touched"
COMMAND = files.text(f"touch {MARKER}")
ARGUMENTS = files.group(COMMAND)
LONG_TUPLE = pickle.MARK + files.number(1) * 50_000 + pickle.TUPLE + pickle.BINPUT + b"\x00"

HOSTILE_PICKLES: dict[str, tuple[bytes, str]] = {
    "os.system": (files.call("os", "system", COMMAND), r"asks for os\.system"),
    "posix.system": (files.call("posix", "system", COMMAND), r"asks for posix\.system"),
    "eval": (files.call("builtins", "eval", COMMAND), r"asks for builtins\.eval"),
    "exec of Python 2": (files.call("__builtin__", "exec", COMMAND), r"__builtin__\.exec"),
    "getattr": (files.call("builtins", "getattr", COMMAND), r"asks for builtins\.getattr"),
    "subprocess": (files.call("subprocess", "Popen", COMMAND), r"asks for subprocess\.Popen"),
    "new object": (
        files.name("subprocess", "Popen") + ARGUMENTS + pickle.NEWOBJ,
        r"asks for subprocess\.Popen",
    ),
    "new object with keywords": (
        files.name("os", "system") + ARGUMENTS + files.table({}) + pickle.NEWOBJ_EX,
        r"asks for os\.system",
    ),
    "name from the stack": (
        files.text("os") + files.text("system") + pickle.STACK_GLOBAL + ARGUMENTS + pickle.REDUCE,
        r"asks for os\.system",
    ),
    "name within a harmless one": (
        files.text("pathlib") + files.text("os.system") + pickle.STACK_GLOBAL,
        r"asks for pathlib\.os\.system",
    ),
    "name that is no text": (
        files.number(1) + files.text("system") + pickle.STACK_GLOBAL,
        r"found a name that is no text",
    ),
    "INST": (pickle.MARK + COMMAND + b"ios\nsystem\n", r"instruction b'i'"),
    "OBJ": (
        pickle.MARK + files.name("os", "system") + COMMAND + pickle.OBJ,
        r"asks for os\.system",
    ),
    "OBJ of something harmless": (
        pickle.MARK + files.name("argparse", "Namespace") + pickle.OBJ,
        r"instruction b'o'",
    ),
    "extension registry": (pickle.EXT1 + b"\x01", r"instruction b'\\x82'"),
    "reference by text": (pickle.PERSID + b"x\n", r"instruction b'P'"),
    "buffer from outside": (pickle.NEXT_BUFFER, r"instruction"),
    "pickle in a pickle": (
        files.call("torch.storage", "_load_from_bytes", pickle.SHORT_BINBYTES + b"\x01x"),
        r"asks for torch\.storage\._load_from_bytes",
    ),
    "pickle.loads": (files.call("pickle", "loads", COMMAND), r"asks for pickle\.loads"),
    "whole network": (
        files.name("torchvision.models.inception", "Inception3") + b")\x81",
        r"asks for torchvision\.models\.inception\.Inception3",
    ),
    "state that sets a class": (
        files.call("collections", "OrderedDict") + files.number(1) + pickle.BUILD,
        r"found a state for something that has none",
    ),
    "call of a value": (files.text("x") + files.group() + pickle.REDUCE, r"found a call of"),
    "call of a storage": (files.call("torch", "FloatStorage"), r"found a call of torch.FloatSt"),
    "tensor of text": (
        files.call("torch._utils", "_rebuild_tensor_v2", *[files.text("x")] * 4),
        r"found a tensor without a shape",
    ),
    "tensor of no storage": (
        files.call("torch._utils", "_rebuild_tensor_v2", files.number(1), files.number(0), b"))"),
        r"found a tensor of something else",
    ),
    "tensor of nothing": (
        files.call("torch._utils", "_rebuild_tensor_v2"),
        r"found a damaged pickle",
    ),
    "negative strides": (
        files.tensor("0", (24,), strides=(-1,)),
        r"found a tensor of something else than a storage and whole numbers from 0 on",
    ),
    "negative offset": (files.tensor("0", (24,), offset=-4), r"whole numbers from 0 on"),
    "rank of 40": (files.tensor("0", (1,) * 40), r"found a tensor without a shape"),
    "reference to something else": (
        files.group(files.text("module"), files.number(1)) + pickle.BINPERSID,
        r"found a reference to something else than a storage",
    ),
    "key twice": (
        pickle.EMPTY_DICT + (files.text("a") + files.number(1)) * 2 + pickle.POP + pickle.POP
        + pickle.SETITEM + files.text("a") + files.number(1) + pickle.SETITEM,
        r"found the key 'a' twice",
    ),
    "key of a million letters": (
        pickle.EMPTY_DICT + files.text("a" * 10**6) + files.number(1) + pickle.SETITEM,
        r"twice or too long",
    ),
    "items for a number": (files.number(1) * 2 + pickle.APPEND, r"found items for"),
    "stack that is empty": (pickle.REDUCE, r"found a damaged pickle"),
    "memo that is empty": (pickle.BINGET + b"\x09", r"found a damaged pickle"),
    "mark that is missing": (pickle.TUPLE, r"found a damaged pickle"),
    "4 GB of text": (pickle.BINUNICODE + b"\xff" * 4, r"4294967295 bytes of text announced"),
    "exabytes": (pickle.BINBYTES8 + b"\xff" * 8, r"bytes announced"),
    "number of 2 GB": (pickle.LONG4 + b"\xff\xff\xff\x7f", r"announced"),
    "number of 255 bytes": (pickle.LONG1 + b"\xff" + bytes(255), r"whole number of 255 bytes"),
    "million steps": (pickle.EMPTY_LIST * 10**6, r"more than 262144 steps"),
    "list copied a thousand times": (
        b"c__builtin__\nset\nq\x01" + LONG_TUPLE + b"h\x01h\x00\x85R" * 60_000,
        r"more than 262144 steps",
    ),
    "tuple unpacked a thousand times": (
        b"cargparse\nNamespace\nq\x01" + LONG_TUPLE + b"h\x01h\x00R" * 80_000,
        r"more than 262144 steps",
    ),
    "lists in lists": (
        b"}" + files.text("a") + b"]" * 1000 + files.tensor("0", (24,)) + b"a" * 1000 + b"s",
        r"in more than 30 others",
    ),
    "text that is cut off": (
        pickle.BINUNICODE + b"\x09\0\0\0abc",
        r"9 bytes of text announced|instruction",
    ),
    "name without an end": (b"cos", r"found a damaged pickle"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "layout"),
    [
        (case, layout)
        for case, (value, _) in HOSTILE_PICKLES.items()
        for layout in ("archive", "stream")
        if layout == "archive" or len(value) < 10_000  # the longest take seconds
    ],
)
def test_hostile_pickle_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, layout: str
) -> None:
    monkeypatch.chdir(tmp_path)
    value, expected = HOSTILE_PICKLES[case]
    make = files.archive if layout == "archive" else files.stream
    files.assert_refused(make(tmp_path / "a.pth", value, {"0": bytes(96)}), expected)
    assert not Path(MARKER).exists()


@pytest.mark.parametrize(
    "value",
    [
        # Python's own reader, however restricted, dies of the first and takes minutes for the next.
        b"}" + b")" + b"\x85" * 200_000 + b"K\x01s",
        b"}(" + b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N"
                        for k in range(1, 50_000)) + b"u",
        b"]q\x00" + b"h\x00a" * 1000,
        b"cyacs.x\ny\nq\x00)" + b"q\x01h\x00h\x01R\x85" * 20_000,
        b"(" * 200_000 + b"0",
    ],
    ids=["nested keys", "colliding keys", "list in itself", "nested objects", "marks"],
)  # fmt: skip
def test_odd_pickle_is_read_in_time(value: bytes) -> None:
    start = time.process_time()
    with (
        pytest.raises(restricted_pickle.Refused, match="damaged")
        if value[:1] == b"("
        else (contextlib.nullcontext())
    ):
        restricted_pickle.load(files.START + value + files.STOP)
    assert time.process_time() - start < 3.0
