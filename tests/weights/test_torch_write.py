"""The state dicts that we write for torch: their container, what they hold, how they come back."""

from __future__ import annotations

import pickle
import pickletools
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hostile import fuzz
from thyrojax.weights import VARIANTS, read
from thyrojax.weights.formats import restricted_pickle, torchvision
from thyrojax.weights.types import Arrays

NARROW = 0.05


@pytest.fixture(scope="module")
def arrays(new_arrays: Callable[..., Arrays]) -> Arrays:
    return new_arrays(classes=5, aux=True, scales=True)


def test_what_is_written_comes_back(tmp_path: Path, arrays: Arrays) -> None:
    path = tmp_path / "a.pth"
    about = {"labels": ["a", "b"], "input_size": 299}
    assert torchvision.write(path, arrays, VARIANTS["gluon"], about) == []
    weights = read(path, depth_multiplier=NARROW)
    assert weights.arrays.keys() == arrays.keys()
    assert all(weights.arrays[name].tobytes() == arrays[name].tobytes() for name in arrays)
    assert weights.format == "torchvision"
    assert weights.variant == VARIANTS["gluon"]
    assert weights.metadata == about
    again = tmp_path / "b.pth"
    torchvision.write(again, arrays, VARIANTS["gluon"], about)
    assert again.read_bytes() == path.read_bytes()


class _Reader(pickle.Unpickler):
    """Python's own reader, for what we write ourselves, with stand-ins for torch's functions."""

    def find_class(self, module: str, name: str) -> Any:
        stand_ins: dict[str, Any] = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": lambda *arguments: arguments,
            "torch.FloatStorage": "float32",
            "torch.LongStorage": "int64",
        }
        return stand_ins[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Any:
        return pid


def test_what_is_written_is_what_torch_writes(tmp_path: Path, arrays: Arrays) -> None:
    """As `torch.save` of torchvision's own state dict: its keys, counters and module versions."""
    path = tmp_path / "a.pth"
    torchvision.write(path, arrays, VARIANTS["torchvision"], {})
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/byteorder") == b"little"
        state = _Reader(archive.open("archive/data.pkl")).load()
        assert type(state) is OrderedDict
        assert len(state) == len(arrays) + 96
        storage, offset, size, stride, grad, hooks = state["Mixed_5b.branch5x5_2.conv.weight"]
        assert storage[:2] == ("storage", "float32")
        assert storage[3:] == ("cpu", 16 * 16 * 25)
        assert (offset, size, stride) == (0, (16, 16, 5, 5), (400, 25, 5, 1))
        assert grad is False
        assert hooks == OrderedDict()
        data = archive.read(f"archive/data/{storage[2]}")
        kernel = np.frombuffer(data, "<f4").reshape(size)
        ours = arrays["params/Mixed_5b/branch5x5_2/conv/kernel"]
        np.testing.assert_array_equal(kernel.transpose(2, 3, 1, 0), ours)
        counter = state["Conv2d_1a_3x3.bn.num_batches_tracked"]
        assert counter[0][1] == "int64"
        assert counter[2:4] == ((), ())
        assert state._metadata[""] == {"version": 1}
        assert state._metadata["AuxLogits.conv0.bn"] == {"version": 2}
        with path.open("rb") as file:
            for entry in archive.infolist():
                file.seek(entry.header_offset + 26)
                lengths = file.read(4)
                name, extra = lengths[0] + 256 * lengths[1], lengths[2] + 256 * lengths[3]
                assert (entry.header_offset + 30 + name + extra) % 64 == 0


def test_damaged_files_are_read_or_refused(tmp_path: Path, arrays: Arrays) -> None:
    path = tmp_path / "a.pth"
    torchvision.write(path, arrays, VARIANTS["torchvision"], {})
    counts = fuzz(path, lambda file: read(file, depth_multiplier=NARROW), n=20, header=60_000)
    assert sum(counts.values()) == 20


def test_large_network_is_read_soon_and_in_bounded_memory(
    tmp_path: Path, new_arrays: Callable[..., Arrays]
) -> None:
    path = tmp_path / "a.pth"
    torchvision.write(path, new_arrays(0.5), VARIANTS["torchvision"], {})
    tracemalloc.start()
    start = time.process_time()
    weights = read(path, depth_multiplier=0.5)
    seconds = time.process_time() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(array.nbytes for array in weights.arrays.values()) > 20_000_000
    assert peak < 2.0 * path.stat().st_size
    assert seconds < 5.0


def test_steps_of_a_whole_network_are_far_from_the_limit(tmp_path: Path, arrays: Arrays) -> None:
    path = tmp_path / "a.pth"
    torchvision.write(path, arrays, VARIANTS["torchvision"], {})
    with zipfile.ZipFile(path) as archive:
        steps = sum(1 for _ in pickletools.genops(archive.read("archive/data.pkl")))
    assert steps < restricted_pickle.MAX_STEPS / 5
