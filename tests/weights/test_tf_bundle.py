"""TensorFlow's containers, read without it: protocol buffers, sorted tables, checkpoints."""

from __future__ import annotations

import base64
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tf_writer as writer
from thyrojax.weights.formats import tf_bundle, tf_table, tf_tensor, wire
from thyrojax.weights.formats.wire import Message

View = memoryview

# Files that TensorFlow 2.21 itself saved, deflated: `half` [5] float16, `double` [3] float64,
# `scalar` int64, and `part` [6, 2] float32 in two partitions.
FIRST = (
    "c-muN$l}W265(P?$uCXHNflxdV&Y(yU{Ye@V&D?uV#!F%Ndt?qN(h6+G`Ls_5{pWNIDleoK+Gh;sKmj=B)|;"
    "BOiEl_EF8=bHWwckTXAw?PGXS|g9N7%15hm^1FseX#2yAlM#hGEAq}{_K(nQ!j3gRZ6Ovx6x@Z3)L35MI(YO"
    "1Ttf}fQ-t>4sBbOA&DNt<^P=|pu@nmtWD0)=1BymH^kz__5J&@~w%9t9O8=8c4V6KI^P)bTmBBEG&{{@|Cd$"
    "pAu_P?lT*?U85@jjV@KKnRX44Ofj^q`uMJOk2ZEY4+r=(qU(X~G-r-p#*bS9>Ph{*1Qzenw6~h(8$^8HD%|o"
    "|a+`Vq^dTFnR4#L=2pB;M2kl42;Z-49}V1V(GuG*Sulk_{qf2KoErgZs=Aib-xV&h@)hg"
)
SECOND = (
    "c-muNVB=tvV&Y(A;1y*kNGvL0U}R)!Xl`iYU=-pIV&Y&1VkQM84GGh2e>bvnvWPaL%UJ>Cl2=FkU|{1<$uCX"
    "HN#$S?Vgbnl#VgF_U1DGn%t*{h;}8amvMNYuaGCO?hHYhFQ3BZqHH!^omK6sVlK?XiGg)zQv2ZX$*bHpE#mR"
    "{|iA5ZoLJSH)8XTsY%rn>-fPfK1{4wsm3FjR6v~U9hBXbGEK}NWk*hVSaV~iY^8TlCqg7DuB-72N-w*fnFEF"
    "}"
)
DATA = (
    "c-m`VO-OpN>Yn|J1kFt*N8j#WvZkuLc+=zk8kR|xOAHK*ju=K1OYgs+Gi|T7lEeNN6)k&jh%MeHbI@m>u{f9"
    "gq2J>BrwMPgdpG}%UG150`!m|=`x&4B0O2DjIs"
)


@pytest.fixture
def by_tensorflow(tmp_path: Path) -> dict[str, Path]:
    """Both versions of the checkpoint above."""
    files = {"v1": FIRST, "v2.index": SECOND, "v2.data-00000-of-00001": DATA}
    for name, text in files.items():
        (tmp_path / name).write_bytes(zlib.decompress(base64.b85decode(text)))
    return {"first": tmp_path / "v1", "second": tmp_path / "v2.index"}


@pytest.mark.parametrize("version", ["first", "second"])
def test_checkpoints_that_tensorflow_saved(by_tensorflow: dict[str, Path], version: str) -> None:
    path = by_tensorflow[version]
    assert tf_bundle.recognises(path)
    tensors = tf_bundle.load(path)
    np.testing.assert_allclose(
        tensors["half"].read(), [0.6445, 0.673, 0.145, 0.1934, 0.1802], atol=2e-4
    )
    np.testing.assert_allclose(
        tensors["double"].read(), [0.47918138, -0.93032298, -0.61553361], atol=5e-9
    )
    assert tensors["scalar"].read() == 0
    assert tensors["part"].shape == (6, 2)
    with pytest.raises(ValueError, match="found a variable in 2 parts, expected a whole one"):
        tensors["part"].read()
    parts = [name for name in tensors if name.startswith("part of part (")]
    assert len(parts) == (2 if version == "second" else 0)


@pytest.mark.parametrize(
    ("data", "value"), [(b"\0", 0), (b"\x96\x01", 150), (b"\xff" * 9 + b"\x01", 2**64 - 1)]
)
def test_varints_of_the_documentation(data: bytes, value: int) -> None:
    assert wire.read_varint(View(data), 0) == (value, len(data))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x02"])
def test_varints_cut_off_or_too_long(data: bytes) -> None:
    with pytest.raises(ValueError, match="expected a varint"):
        wire.read_varint(View(data), 0)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\x00\x00", "found field 0"),
        (b"\x0b", "found wire type 3"),  # groups, which nobody uses
        (b"\x0a\x05abcd", "found 5 bytes at byte 2 of 6"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "found 18446744073709551615 bytes"),
        (b"\x0d\x00\x00", "found 4 bytes at byte 1 of 3"),
        (b"\x08\x01" * 4097, "found a message of more than 4096 fields"),
    ],
)
def test_messages_that_lie(data: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Message(View(data))


def test_fields_of_another_type_are_refused() -> None:
    message = Message(View(writer.message((1, 7), (2, "text"))))
    assert (message.number(1), message.text(2), message.number(9)) == (7, "text", 0)
    with pytest.raises(ValueError, match="found wire type 0 in field 1, expected 2"):
        message.text(1)
    with pytest.raises(ValueError, match="found wire type 2 in field 2, expected 0"):
        message.number(2)


def test_whole_numbers_are_signed_and_counted() -> None:
    message = Message(View(writer.message((1, -1), (2, b"\x05\x06"), (2, 7))))
    assert message.number(1) == -1
    assert message.numbers(2) == [5, 6, 7]
    with pytest.raises(ValueError, match="found more than 2 numbers in field 2"):
        message.numbers(2, limit=2)


def test_snappy_of_the_format_description() -> None:
    """A literal, a copy that overlaps itself, copies of each kind, and a long literal."""
    expand = tf_table.expand_snappy
    assert expand(View(b"\x03\x08abc"), 9) == b"abc"
    assert expand(View(b"\x12\x00x\x15\x01\x04ab\x09\x02"), 99) == b"x" * 10 + b"ab" * 4
    assert expand(View(b"\x08\x0cabcd\x0e\x04\x00"), 99) == b"abcdabcd"
    assert expand(View(b"\x08\x0cabcd\x0f\x04\x00\x00\x00"), 99) == b"abcdabcd"
    long = bytes(range(100))
    assert expand(View(b"\x64\xf0\x63" + long), 100) == long


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\xff\xff\xff\xff\x0f\x00a", "found 4294967295 bytes"),
        (b"\x04\x08abc", "end elsewhere"),
        (b"\x03\x08ab", "end elsewhere"),
        (b"\x02\x08abc", "end elsewhere"),
        (b"\x03\xf0", "end elsewhere"),
        (b"\x08\x0cabcd\x0e\x05\x00", "found a copy from 5 bytes back"),
        (b"\x08\x0cabcd\x0e\x00\x00", "found a copy from 0 bytes back"),
    ],
)
def test_snappy_that_lies(data: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        tf_table.expand_snappy(View(data), 1000)


def test_snappy_of_random_data() -> None:
    rng = np.random.default_rng(3)
    for size in (0, 1, 59, 60, 61, 5000):
        data = bytes(rng.choice([0, 0, 0, 1], size).astype(np.uint8).repeat(7))
        assert tf_table.expand_snappy(View(writer.snappy(data)), 10**6) == data


@pytest.mark.parametrize("compressed", [False, True])
def test_tables_give_back_what_was_written(compressed: bool) -> None:
    entries = [(f"key/{i:03}".encode(), bytes([i]) * i) for i in range(120)]
    found = tf_table.read_table(View(writer.table(entries, compressed)))
    assert [(key, bytes(value)) for key, value in found] == entries


def list_table(data: bytes) -> int:
    return len(list(tf_table.read_table(View(data))))


def test_checksums_are_those_of_castagnoli() -> None:
    """The check value of CRC-32C, and how LevelDB stores it."""
    rotated = (0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8 & 0xFFFFFFFF
    assert tf_table.matches(View(b"123456789"), rotated)
    assert not tf_table.matches(View(b"123456788"), rotated)


def with_block(content: bytes, kind: int = 0, checksum: int | None = None) -> bytes:
    """A table with one block of any content."""
    whole = content + bytes([kind])
    data = whole + struct.pack("<I", writer.masked(whole) if checksum is None else checksum)
    index = writer.block([(b"z", writer.varint(0) + writer.varint(len(content)))]) + b"\0"
    handle = writer.varint(len(data)) + writer.varint(len(index) - 1)
    data += index + struct.pack("<I", writer.masked(index))
    return data + (b"\0\0" + handle).ljust(40, b"\0") + tf_table.MAGIC


ONE = writer.block([(b"key", b"value")])
TABLES = {
    "no footer": (bytes(100), "found no footer"),
    "checksum": (with_block(ONE, checksum=1), "found another checksum of the block at byte 0"),
    "compression": (with_block(ONE, kind=2), "found compression 2"),
    "restarts": (with_block(struct.pack("<I", 9)), "found 9 restarts in 4 bytes"),
    "many restarts": (with_block(struct.pack("<I", 2**32 - 1)), "restarts in 4 bytes"),
    "too short": (with_block(b"ab"), "found a block of 2 bytes"),
    "shared too much": (with_block(b"\x05\x01\x01ab" + ONE[-8:]), r"an entry of 5 \+ 1 and 1"),
    "longer than the block": (with_block(b"\0\x03\x7fkey" + ONE[-8:]), r"entry of 0 \+ 3 and 127"),
    "endless number": (with_block(b"\xff" * 12 + ONE[-8:]), "expected a varint"),
    "long key": (with_block(writer.block([(bytes(5000), b"")])), "found a key of 5000 bytes"),
    "order": (with_block(writer.block([(b"b", b""), (b"a", b"")])), "found key b'a' after b'b'"),
    "twice": (with_block(writer.block([(b"a", b""), (b"a", b"")])), "found key b'a' after b'a'"),
    "snappy bomb": (with_block(b"\x80\x80\x80\x80\x08\0a", kind=1), "compressed with snappy"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_lie(case: str) -> None:
    data, fault = TABLES[case]
    with pytest.raises(ValueError, match=fault):
        list_table(data)


def test_block_beyond_the_file() -> None:
    data = with_block(ONE)
    assert list_table(data) == 1
    footer = (b"\0\0" + writer.varint(2**62) + writer.varint(2**62)).ljust(40, b"\0")
    with pytest.raises(ValueError, match="found a block of 4611686018427387904 bytes"):
        list_table(data[:-48] + footer + tf_table.MAGIC)


def test_table_of_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf_table, "MAX_ENTRIES", 100)
    entries = [(struct.pack(">I", i), b"") for i in range(101)]
    with pytest.raises(ValueError, match="found more than 100 entries"):
        list_table(writer.table(entries))


def header(shards: int = 1, endianness: int = 0) -> bytes:
    return writer.message((1, shards), (2, endianness))


def entry(
    array: np.ndarray, shard: int = 0, offset: int = 0, size: int | None = None, crc: int = 0
) -> bytes:
    size = array.nbytes if size is None else size
    crc = crc or writer.masked(array.tobytes())
    kinds = (1, writer.type_number(array)), (2, writer.shape_proto(array.shape)), (3, shard)
    return writer.message(*kinds, (4, offset), (5, size), (6, writer.Fixed32(crc)))


VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)
READ = {
    "cut off": (entry(VALUES, offset=8), "found 24 bytes at byte 8 of .* of 24"),
    "before the file": (entry(VALUES, offset=-8), "found 24 bytes at byte -8"),
    "of another size": (entry(VALUES, size=20), r"found 20 bytes, expected 24 for \(2, 3\)"),
    "of negative size": (entry(VALUES, size=-24), "found -24 bytes"),
    "huge": (entry(VALUES, size=2**62), "found 4611686018427387904 bytes"),
    "checksum": (entry(VALUES, crc=5), "found another checksum of 24 bytes"),
    "no such file": (entry(VALUES, shard=1), "found no values in c.data-00001-of-00002 beside"),
    "not numbers": (writer.message((1, 7), (5, 24)), "found values of type number 7"),
}


@pytest.mark.parametrize("case", READ)
def test_variables_that_lie(tmp_path: Path, case: str) -> None:
    stored, fault = READ[case]
    (tmp_path / "c.data-00000-of-00002").write_bytes(VALUES.tobytes())
    index = tmp_path / "c.index"
    index.write_bytes(writer.table([(b"", header(2)), (b"good", entry(VALUES)), (b"x", stored)]))
    tensors = tf_bundle.load(index)
    np.testing.assert_array_equal(tensors["good"].read(), VALUES)
    with pytest.raises(ValueError, match=fault):
        tensors["x"].read()


INDEXES = {
    "file of no number": ([(b"", header(1)), (b"x", entry(VALUES, shard=1))], "found file 1"),
    "negative file": ([(b"", header(1)), (b"x", entry(VALUES, shard=-1))], "found file -1"),
    "no files": ([(b"", header(0))], "found 0 files of values"),
    "files without end": ([(b"", header(2**31))], "found 2147483648 files of values"),
    "big-endian": ([(b"", header(1, 1))], "found values of a big-endian machine"),
    "no header": ([(b"x", entry(VALUES))], "found a table of something else"),
    "nothing": ([], "found a table of something else"),
    "dimensions": (
        [(b"", header()), (b"x", writer.message((2, writer.shape_proto([1] * 9))))],
        "found 9 dimensions",
    ),
}


@pytest.mark.parametrize("case", INDEXES)
def test_indexes_that_lie(tmp_path: Path, case: str) -> None:
    entries, fault = INDEXES[case]
    index = tmp_path / "c.index"
    index.write_bytes(writer.table(entries))
    with pytest.raises(ValueError, match=fault):
        tf_bundle.load(index)


def test_pipe_in_a_files_place(tmp_path: Path) -> None:
    index = writer.write_second(tmp_path / "c", {"x": VALUES})
    (tmp_path / "c.data-00000-of-00001").unlink()
    os.mkfifo(tmp_path / "c.data-00000-of-00001")
    with pytest.raises(ValueError, match=r"found no values in c\.data"):
        tf_bundle.load(index)["x"].read()


def first_version(
    values: dict[str, np.ndarray], change: Callable[[list[tuple[bytes, bytes]]], Any]
) -> bytes:
    entries = writer.first_entries(values)
    change(entries)
    return writer.table(entries)


def test_old_checkpoints_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "c.ckpt"
    values = {"a": VALUES, "b": VALUES + 1}
    path.write_bytes(first_version(values, lambda entries: None))
    np.testing.assert_array_equal(tf_bundle.load(path)["b"].read(), VALUES + 1)

    path.write_bytes(first_version(values, lambda entries: entries.pop()))
    with pytest.raises(ValueError, match="found no values, expected them in the file"):
        tf_bundle.load(path)["b"].read()

    twice = (b"\0z", writer.first_entries({"a": VALUES})[1][1])
    path.write_bytes(first_version(values, lambda entries: entries.append(twice)))
    with pytest.raises(ValueError, match="a: found values twice"):
        tf_bundle.load(path)

    unlisted = writer.first_entries({"c": VALUES})[1]
    path.write_bytes(first_version(values, lambda entries: entries.append(unlisted)))
    with pytest.raises(ValueError, match="c: found a variable that is not listed"):
        tf_bundle.load(path)

    fewer = writer.first_entries({"b": VALUES[:1]})[1]
    path.write_bytes(first_version(values, lambda entries: entries.__setitem__(2, fewer)))
    with pytest.raises(ValueError, match=r"found 3 values, expected 6 for \(2, 3\)"):
        tf_bundle.load(path)["b"].read()


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64"])
def test_tensors_as_bytes_and_as_numbers(dtype: str, values: bool) -> None:
    array = np.array([[0, 1, -2], [3, 40, 5]], dtype)
    found = tf_tensor.tensor(Message(View(writer.tensor_proto(array, values))))
    assert (found.shape, found.dtype) == ((2, 3), dtype)
    np.testing.assert_array_equal(found.read(), array)


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    bits = writer.message((1, 14), (2, writer.shape_proto([2])), (4, b"\x80\x3f\x00\xc0"))
    assert tf_tensor.tensor(Message(View(bits))).read().tolist() == [1.0, -2.0]


def test_the_last_of_few_values_stands_for_the_rest() -> None:
    few = writer.message((1, 1), (2, writer.shape_proto([5])), (5, 1.5), (5, 0.25))
    found = tf_tensor.tensor(Message(View(few))).read()
    assert found.tolist() == [1.5, 0.25, 0.25, 0.25, 0.25]
    none = writer.message((1, 1), (2, writer.shape_proto([2])))
    assert tf_tensor.tensor(Message(View(none))).read().tolist() == [0, 0]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ([(1, 1), (2, writer.shape_proto([2])), (4, b"abc")], "found 3 bytes, expected 8"),
        (
            [(1, 1), (2, writer.shape_proto([-2])), (4, b"abcd")],
            "found shape .*expected known sizes",
        ),
        ([(1, 1), (2, writer.shape_proto([1])), (5, b"abc")], "found 3 bytes in field 5"),
        ([(1, 1), (2, writer.shape_proto([1])), (5, bytes(8))], "found 2 values, expected 1"),
        ([(1, 7), (2, writer.shape_proto([1])), (8, b"text")], "found values of type number 7"),
        ([(1, 3), (2, writer.shape_proto([1])), (7, b"\x01\x02")], "found more than 1 numbers"),
    ],
)
def test_tensors_that_lie(fields: list[tuple[int, Any]], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        tf_tensor.tensor(Message(View(writer.message(*fields)))).read()


def test_tensor_of_unknown_rank() -> None:
    with pytest.raises(ValueError, match="found 0 dimensions"):
        tf_tensor.tensor(Message(View(writer.message((1, 1), (2, writer.message((3, 1)))))))
