"""Decoded frames brought to the accelerators, once: how many, where each goes, which are bad."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from thyrojax import processes
from thyrojax.config import Config
from thyrojax.data import draws
from thyrojax.data.dataset import Record
from thyrojax.errors import DataError
from thyrojax.shapes import Array, Bool, Float, Int, UInt8

# Shares of a device's free memory that frames may take; the rest is the network's.
REPLICATED_SHARE = 0.25  # more than this: they are split over the devices
LARGEST_SHARE = 0.6
CHUNK_BYTES = 64 * 2**20  # decoded on the host at a time


class ResidentFrames(NamedTuple):
    """A set as one device holds it: all records, and all frames or the device's block of them.

    Records are those that were asked for, in that order. As `load` makes them, all arrays have a
    leading axis of devices.
    """

    frames: UInt8[Array, "*devices frames height width"]
    frame: Int[Array, "*devices records"]  # of each record, counted over all devices' blocks
    height: Int[Array, "*devices records"]  # of its frame in pixels, without padding
    width: Int[Array, "*devices records"]
    box: Int[Array, "*devices records 4"]
    label: Int[Array, "*devices records"]
    place: Int[Array, "*devices records"]  # in the set
    margin_low: Int[Array, "*devices records"]  # of training, in pixels of the record's frame
    margin_high: Int[Array, "*devices records"]
    bad: Bool[Array, "*devices flags"]  # a flag for each record; of length 0 where none is bad
    mixing: Float[Array, "*devices 2 quantiles"]  # `draws.mixing_weights`


@runtime_checkable
class Frames(Protocol):
    """What is needed of a set: `dataset.Dataset`, or anything else with records and frames."""

    @property
    def records(self) -> Sequence[Record]: ...

    def frame(self, index: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Resident:
    """Frames on devices, and what `resident.make_batch` and the log need to know of them.

    Every array of `frames` has a leading axis of devices and lies along it, for pmap (in_axes 0) as
    for shard_map (PartitionSpec(axis_name)).
    """

    frames: ResidentFrames
    n_devices: int
    sharded: bool  # over the devices, rather than whole on each
    device_bytes: int  # of frames on each device, padding included
    bad: tuple[tuple[int, str], ...]  # position in the set and what is wrong, of unreadable records
    summary: str  # one line


def load(
    dataset: Frames,
    indices: Int[np.ndarray, " n"],
    config: Config,
    axis_name: str = "batch",
    devices: Sequence[Any] | None = None,
    sharded: bool | None = None,
    count: int | None = None,
) -> Resident:
    """Decodes the frames of the records `indices` once and puts them on the devices.

    A frame that several records share is kept once. The host holds `CHUNK_BYTES` of them at a time.

    Args:
      dataset: the set.
      indices: of its records; the training records first.
      config: margins, and what to do with records that cannot be read.
      axis_name: of the devices' axis.
      devices: default: all local ones. Of several processes each reads and holds what is for its
        own, and all call this together.
      sharded: whether to split the frames over the devices; None: where they are more than
        `REPLICATED_SHARE` of a device's free memory.
      count: of the training records, which may be bad where the configuration skips bad ones; the
        others may not. None: all are for training.

    Raises:
      ValueError: `indices` is empty or repeats a record.
      DataError: a record cannot be read (with "skip": more than 1 % of the training records, or one
        beside them), the frames do not fit on the devices, or a margin in millimetres is of a
        record without pixel spacing.
    """
    if len(indices) == 0 or len(np.unique(indices)) != len(indices):
        raise ValueError("indices: found none or a record twice, expected each once")
    devices = list(jax.local_devices() if devices is None else devices)
    records = [dataset.records[i] for i in indices]
    sharers: dict[str, list[int]] = {}  # frame to the positions of its records
    for position, record in enumerate(records):
        sharers.setdefault(record.frame_sha256, []).append(position)
    height = max(record.height for record in records)
    width = max(record.width for record in records)
    local = [x for x in devices if x.process_index == jax.process_index()]
    sharded = _choose(len(sharers), height, width, devices, sharded)
    block = -(-len(sharers) // len(devices)) if sharded else len(sharers)

    low, high = draws.margin_bounds(config, records)
    owners = list(sharers.values())
    frame_of = np.empty(len(records), np.int32)
    for number, positions in enumerate(owners):
        frame_of[positions] = number

    count = len(indices) if count is None else count
    may_be_bad = count if config.on_bad_record == "skip" else 0
    blocks, bad = _blocks(
        dataset, indices, owners, (block, height, width), devices, sharded, may_be_bad
    )
    flags = np.zeros(len(records), bool)
    flags[list(bad)] = True
    small = {
        "frame": frame_of,
        "height": np.array([record.height for record in records], np.int32),
        "width": np.array([record.width for record in records], np.int32),
        "box": np.array([record.box for record in records], np.int32),
        "label": np.array([record.label for record in records], np.int32),
        "place": np.asarray(indices, np.int32),
        "margin_low": low,
        "margin_high": high,
        "bad": flags if bad else flags[:0],
        "mixing": draws.mixing_weights(config),
    }
    sharding = NamedSharding(Mesh(np.asarray(devices), (axis_name,)), PartitionSpec(axis_name))

    def spread(parts: list[Any]) -> jax.Array:
        shape = (len(devices), *parts[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, sharding, parts)

    frames = ResidentFrames(
        frames=spread(blocks),
        **{
            name: spread([jax.device_put(array[None], device) for device in local])
            for name, array in small.items()
        },
    )
    whole = block * height * width
    used = sum(records[positions[0]].height * records[positions[0]].width for positions in owners)
    padding = 1.0 - used / (len(owners) * height * width)
    where = "split over" if sharded else "whole on each of"
    return Resident(
        frames=frames,
        n_devices=len(devices),
        sharded=sharded,
        device_bytes=whole,
        bad=tuple((int(indices[position]), message) for position, message in bad.items()),
        summary=(
            f"{len(owners)} frames {where} {len(devices)} devices, {whole / 1e6:,.0f} MB on each; "
            f"{padding:.0%} is padding to {width}x{height}"
        ),
    )


def _choose(
    n_frames: int, height: int, width: int, devices: list[Any], sharded: bool | None
) -> bool:
    """Whether to split the frames, by size.

    Raises:
      DataError: they do not fit on the devices.
    """
    local = [x for x in devices if x.process_index == jax.process_index()]
    free = min(processes.gathered(min(_free_memory(x, len(local)) for x in local)))
    whole = n_frames * height * width
    if sharded is None:
        sharded = len(devices) > 1 and whole > REPLICATED_SHARE * free
    each = -(-n_frames // len(devices)) * height * width if sharded else whole
    if each > LARGEST_SHARE * free:
        raise DataError(
            f"resident feed: found {n_frames} frames of up to {width}x{height}, {each / 1e9:.2f} "
            f"GB on each of {len(devices)} devices, expected at most "
            f"{LARGEST_SHARE * free / 1e9:.2f} GB; take feed stream"
        )
    return sharded


def _free_memory(device: Any, n_devices: int) -> int:
    """Bytes that a device has to give; of a CPU, its share of the machine's."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // n_devices


def _blocks(
    dataset: Frames,
    indices: Int[np.ndarray, " n"],
    owners: list[list[int]],
    shape: tuple[int, int, int],
    devices: list[Any],
    sharded: bool,
    may_be_bad: int,
) -> tuple[list[jax.Array], dict[int, str]]:
    """This process's devices' blocks uint8 [1, *shape], and what is wrong with the bad records.

    Only of the first `may_be_bad` records, and at most 1 % of those.
    """
    block, height, width = shape
    bad: dict[int, str] = {}
    arrays = {
        number: jnp.zeros((1, *shape), jnp.uint8, device=device)
        for number, device in enumerate(devices)
        if device.process_index == jax.process_index()
    }
    chunk = max(CHUNK_BYTES // (height * width), 1)

    def read(positions: list[int]) -> np.ndarray | DataError:
        faults = []
        for position in positions:  # records of one frame: any of them will do
            try:
                return _frame(dataset, int(indices[position]))
            except DataError as error:
                faults.append(error)
        return faults[0]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start, stop in _chunks(len(owners), block, chunk):
            if sharded and start // block not in arrays:  # of another process
                continue
            padded = np.zeros((1, stop - start, height, width), np.uint8)
            for number, frame in enumerate(pool.map(read, owners[start:stop]), start):
                if isinstance(frame, DataError):
                    if max(owners[number]) >= may_be_bad:
                        raise frame
                    bad |= dict.fromkeys(owners[number], str(frame))
                    _check_bad(bad, may_be_bad)
                else:
                    padded[0, number - start, : frame.shape[0], : frame.shape[1]] = frame
            for number, array in arrays.items():
                if not sharded or number == start // block:
                    arrays[number] = _written(
                        array, jax.device_put(padded, devices[number]), start % block
                    )
    for found in processes.gathered(list(bad.items())):
        bad |= dict(found)
    _check_bad(bad, may_be_bad)
    return list(arrays.values()), dict(sorted(bad.items()))


def _check_bad(bad: dict[int, str], count: int) -> None:
    """Raises DataError where too many of `count` training records are bad."""
    if len(bad) > (most := draws.most_bad(count)):
        raise DataError(
            f"{[*bad.values()][-1]}; {len(bad)} of {count} training records cannot be read, "
            f"expected at most {most} (1 %); build the set again"
        )


def _frame(dataset: Frames, index: int) -> np.ndarray:
    """A record's frame, of the size that the record says."""
    record, frame = dataset.records[index], dataset.frame(index)
    if frame.shape != (record.height, record.width):
        raise DataError(
            f"record {index} ({record.image_id}): found a frame of {frame.shape[1]}x"
            f"{frame.shape[0]}, expected {record.width}x{record.height}"
        )
    return frame


def _chunks(count: int, block: int, chunk: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `chunk` frames that cover 0..count-1, none of which spans two blocks."""
    for first in range(0, count, block):
        last = min(first + block, count)
        for start in range(first, last, chunk):
            yield start, min(start + chunk, last)


@partial(jax.jit, donate_argnums=0)
def _written(block: jax.Array, frames: jax.Array, start: Any) -> jax.Array:
    """The block with some frames written into it, in place."""
    return lax.dynamic_update_slice(block, frames, (0, start, 0, 0))
