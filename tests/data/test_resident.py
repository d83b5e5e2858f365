"""The resident feed: the stream feed's batches, cut by the devices that hold the frames."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from thyrojax.config import Border, Config, CropShape
from thyrojax.data import resample, resident, resident_frames
from thyrojax.data.builder import build
from thyrojax.data.crop import crop_numpy, crop_turned, window, window_edges
from thyrojax.data.dataset import Dataset, open_dataset
from thyrojax.data.records import Box, Nodule, SourceData
from thyrojax.data.resident_frames import Resident
from thyrojax.data.stream import TrainFeed
from thyrojax.errors import DataError
from thyrojax.train.mapping import map_over_devices

SIZES = ((60, 80), (40, 100), (90, 50), (1, 70), (64, 64))
PLAIN = Config(input_size=75, batch_size=16, margin_max=40)
SOME = np.array([0, 3, 4, 5, 7, 8, 11, 12, 15, 16, 17, 19, 20], np.int32)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SIZES[seed % len(SIZES)], np.uint8)


@pytest.fixture(scope="module")
def ragged_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 22 nodules in 15 frames of five sizes."""
    nodules = []
    for i in range(22):
        image = i if i < 15 else i - 15
        height, width = SIZES[image % len(SIZES)]
        box = Box(i % 7, min(i % 5, height - 1), width - i % 11, max(height - i, height // 2 + 1))
        nodules.append(
            Nodule(
                partial(noise, image),
                f"image-{i}",
                f"patient-{image}",
                box,
                i % 2,
                pixel_spacing_mm=0.1 + 0.01 * (i % 5),
            )
        )
    source = SourceData("csv", tuple(nodules), (), 15)
    return build(source, tmp_path_factory.mktemp("sets") / "ragged", mask_overlay=False)


@pytest.fixture
def ragged(ragged_folder: Path) -> Dataset:
    return open_dataset(ragged_folder)


def one_device(dataset: Any, config: Config, indices: np.ndarray = SOME) -> Resident:
    return resident_frames.load(dataset, indices, config, devices=jax.local_devices()[:1])


def batch_of(loaded: Resident, config: Config, step: int) -> dict[str, np.ndarray]:
    batch = jax.jit(resident.make_batch(config, loaded.frames.place.shape[1]))
    return jax.tree.map(np.asarray, batch(loaded.frames, step))


# ---- The sampler.


@pytest.mark.parametrize(
    ("sampler", "size", "shape", "border"),
    [
        *((resample.gather, 33, *rule) for rule in product(get_args(CropShape), get_args(Border))),
        (resample.gather, 1, "square", "constant"),
        (resample.multiply, 90, "square_cover", "reflect"),
    ],
)
def test_crops_are_the_references_and_never_read_padding(
    sampler: resample.Sampler,
    size: int,
    shape: CropShape,
    border: Border,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(resample.SAMPLERS, "cpu", sampler)
    random = np.random.default_rng(3)
    sizes = np.array([(70, 90), (1, 40), (33, 1), (1, 1), (50, 60), (2, 2)])
    frames = np.full((6, 70, 90), 255, np.uint8)
    for padded, (height, width) in zip(frames, sizes, strict=True):
        padded[:height, :width] = random.integers(0, 200, (height, width))

    count = 60
    frame = random.integers(0, 6, count)
    starts = (random.random((count, 2)) * sizes[frame]).astype(int)  # y, x; boxes of 1 px and more
    ends = starts + 1 + (random.random((count, 2)) * (sizes[frame] - starts - 1)).astype(int)
    boxes = np.concatenate([starts[:, ::-1], ends[:, ::-1]], axis=1)
    margins = random.integers(0, 120, count)

    def crop_one(frame: Any, height: Any, width: Any, box: Any, margin: Any) -> Any:
        edges = window_edges(
            tuple(box), margin, shape, border, height, width, jnp.minimum, jnp.maximum
        )
        left, top, columns, rows = edges
        places = resample.grid_places(rows, size), resample.grid_places(columns, size)
        crop = resample.crop(
            jnp.asarray(frames), frame, (height, width), (top, left), places, border
        )
        return jnp.stack(edges), crop

    found = jax.vmap(crop_one)(
        *(jnp.asarray(x, jnp.int32) for x in (frame, *sizes[frame].T, boxes, margins))
    )
    for row, (edges, crop) in enumerate(zip(*map(np.asarray, found), strict=True)):
        height, width = sizes[frame[row]].tolist()
        box, margin = Box(*boxes[row].tolist()), int(margins[row])
        cut = window(box, margin, shape, border, height, width)
        assert tuple(edges) == cut
        expected = crop_numpy(frames[frame[row], :height, :width], cut, size, border)
        np.testing.assert_allclose(crop, expected, atol=1e-3)


@pytest.mark.parametrize("border", get_args(Border))
def test_any_positions_are_read_as_on_the_host(border: Border) -> None:
    random = np.random.default_rng(4)
    frame = random.integers(0, 256, (50, 60), np.uint8)
    cut = window(Box(5, 10, 30, 45), 8, "square", border, 50, 60)
    columns, rows = random.uniform(-15, 60, (2, 31, 31)).astype(np.float32)
    crop = resample.crop(
        jnp.asarray(np.pad(frame, (0, 9), constant_values=255)[None]),
        jnp.int32(0),
        (jnp.int32(50), jnp.int32(60)),
        (jnp.int32(cut.top), jnp.int32(cut.left)),
        (resample.free_places(jnp.asarray(rows)), resample.free_places(jnp.asarray(columns))),
        border,
    )
    np.testing.assert_allclose(crop, crop_turned(frame, cut, columns, rows, border), atol=2e-3)


def test_unknown_backends_gather_and_turned_crops_always_do() -> None:
    assert resample.best_sampler(True, "abacus") is resample.gather
    assert resample.best_sampler(True, "tpu") is resample.multiply
    assert resample.best_sampler(False, "tpu") is resample.gather


# ---- The same batches as the stream feed.


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crop_shape": "square_cover", "border": "edge", "flip": False},
        {"crop_shape": "rectangle", "border": "reflect", "margin_unit": "mm", "margin_max": 4},
        {"border": "shift", "vertical_flip": True, "gain": 0.2, "contrast": 0.3, "time_gain": 0.3},
        {"crop_shape": "rectangle", "border": "shift", "batch_size": 3, "seed": 7},
        {"crop_shape": "frame", "batch_size": 3, "seed": 8},
        {"crop_shape": "square_cover", "border": "reflect", "batch_size": 40, "seed": 2**40},
        {"mixup": 0.4, "cutmix": 1.0, "batch_size": 8},
        {"erase": 0.9, "speckle": 0.2, "blur": 1.0, "gain": 0.2},
    ],
    ids=str,
)
def test_both_feeds_give_the_same_batches(ragged: Dataset, options: dict[str, Any]) -> None:
    config = dataclasses.replace(PLAIN, **options)
    loaded, feed = one_device(ragged, config), TrainFeed(ragged, SOME, config)
    for step in (0, 1, 1000):
        ours, theirs = batch_of(loaded, config, step), feed.batch(config.seed, step)
        assert ours.keys() == theirs.keys()
        for name in set(ours) - {"image", "target"}:
            assert ours[name].dtype == theirs[name].dtype
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
        np.testing.assert_allclose(ours["image"], theirs["image"], atol=1e-3)
        if "target" in ours:
            np.testing.assert_allclose(ours["target"], theirs["target"], atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"border": "reflect", "erase": 0.5}, {"mixup": 0.3, "input_size": 384}], ids=str
)
def test_turned_crops_are_the_same_too(ragged: Dataset, options: dict[str, Any]) -> None:
    """Also where XLA computes a position twice, as it does with mixup: once for tap and weight."""
    config = dataclasses.replace(PLAIN, rotation=10.0, zoom=0.1, vertical_flip=True, **options)
    ours = batch_of(one_device(ragged, config), config, 0)
    theirs = TrainFeed(ragged, SOME, config).batch(config.seed, 0)
    np.testing.assert_allclose(ours["image"], theirs["image"], atol=1e-3)


# ---- Over devices.


def mapped(kind: str, function: Any) -> Any:
    if kind == "pmap":
        return jax.pmap(function, axis_name="batch", in_axes=(0, None))
    mesh = Mesh(np.asarray(jax.local_devices()), ("batch",))
    return jax.jit(
        jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(PartitionSpec("batch"), PartitionSpec()),
            out_specs=PartitionSpec("batch"),
            check_vma=False,
        )
    )


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"), [("pmap", {"mixup": 0.3, "gain": 0.2}), ("shard_map", {})]
)
def test_devices_together_give_the_whole_batch(
    ragged: Dataset, kind: str, sharded: bool, options: dict[str, Any]
) -> None:
    config = dataclasses.replace(PLAIN, **options)
    loaded = resident_frames.load(ragged, SOME, config, sharded=sharded)
    assert (loaded.sharded, loaded.n_devices) == (sharded, 8)
    batch = mapped(kind, resident.make_batch(config, len(SOME), "batch", 8, sharded))
    feed = TrainFeed(ragged, SOME, config)
    for step in (0, 5):
        expected = feed.batch(config.seed, step)
        for name, values in batch(loaded.frames, step).items():
            together = np.asarray(values).reshape(expected[name].shape)
            np.testing.assert_allclose(together, expected[name], atol=1e-3, err_msg=name)


def evenly(loaded: Resident, rows: int) -> np.ndarray:
    """Positions whose frames each device that has some holds as many of as the next, in turn."""
    frame, block = np.asarray(loaded.frames.frame)[0], loaded.frames.frames.shape[1]
    _, first = np.unique(frame // block, return_index=True)
    return np.resize(first, rows).astype(np.int32)


@pytest.mark.parametrize("kind", ["pmap", "shard_map"])
def test_crops_reach_their_rows_whoever_holds_the_frames(
    ragged: Dataset, kind: Literal["pmap", "shard_map"]
) -> None:
    rows, here = 256, 32
    loaded = resident_frames.load(ragged, SOME, PLAIN, sharded=True)
    crops = resident.make_crops(PLAIN, "batch", 8, True)
    roles: Any = ("rows", "rows", "rows"), ("rows",)
    together = map_over_devices(kind, crops, *roles, jax.local_devices())
    alone = jax.jit(resident.make_crops(PLAIN))
    frames = one_device(ragged, PLAIN).frames
    margin = np.arange(rows, dtype=np.int32) % 40
    even = evenly(loaded, rows)
    uneven = np.random.default_rng(0).integers(0, len(SOME), rows).astype(np.int32)
    for position in (even, uneven, np.zeros(rows, np.int32)):  # at last one device has all
        split = (8, here) if kind == "pmap" else (rows,)
        found = together(loaded.frames, position.reshape(split), margin.reshape(split))
        expected = alone(frames, position, margin)
        np.testing.assert_allclose(np.reshape(found, expected.shape), expected, atol=1e-4)


def test_usual_batches_are_moved_and_only_rare_ones_summed(
    ragged: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident.lax, "psum_scatter", lambda x, *_, **__: jnp.nan * x[:32])
    loaded = resident_frames.load(ragged, SOME, PLAIN, sharded=True)
    crops = jax.pmap(resident.make_crops(PLAIN, "batch", 8, True), axis_name="batch")

    def summed(position: np.ndarray) -> bool:
        (whether,) = set(np.isnan(crops(loaded.frames, *[position.reshape(8, 32)] * 2)).ravel())
        return bool(whether)

    even = evenly(loaded, 256)
    assert not summed(even)
    # From one device to the first there is room for 18 of its 32 rows; on average there are four.
    assert resident.most_of_a_pair(32, 8) == 18
    crowded = even.copy()
    crowded[:32:5], crowded[1:32:5] = even[0], even[0]  # 14 to the first device
    assert not summed(crowded)
    crowded[2:32:5] = even[0]  # 20
    assert summed(crowded)
    assert summed(np.full(256, even[0]))
    # On 64 devices of 32 rows that is a quarter of the bytes.
    assert resident.most_of_a_pair(32, 64) * 64 < 32 * 64 / 4


def test_frames_lie_where_they_are_said_to(
    ragged: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident_frames, "CHUNK_BYTES", 3 * 90 * 100)  # several reads a block
    everything = np.arange(22, dtype=np.int32)
    whole = resident_frames.load(ragged, everything, PLAIN)
    parts = resident_frames.load(ragged, everything, PLAIN, sharded=True)
    assert not whole.sharded
    assert whole.frames.frames.shape == (8, 15, 90, 100)  # 15 different frames of 22 records
    assert parts.frames.frames.shape == (8, 2, 90, 100)
    assert (whole.device_bytes, parts.device_bytes) == (15 * 9000, 2 * 9000)
    kept = np.asarray(whole.frames.frames)
    np.testing.assert_array_equal(kept[3], kept[0])
    blocks = np.asarray(parts.frames.frames).reshape(16, 90, 100)
    np.testing.assert_array_equal(blocks[:15], kept[0])
    for position in everything.tolist():
        height, width = SIZES[position % 15 % 5]
        frame = kept[0, int(whole.frames.frame[0, position])]
        np.testing.assert_array_equal(frame[:height, :width], ragged.frame(position))
    assert all(len(array.sharding.device_set) == 8 for array in parts.frames)
    assert "split over 8 devices" in parts.summary
    assert "whole on each of 8 devices" in whole.summary


def test_size_chooses_between_whole_and_split(
    ragged: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = len({ragged.records[i].frame_sha256 for i in SOME}) * 90 * 100
    for free, sharded in ((4.1 * frames, False), (3.9 * frames, True)):
        monkeypatch.setattr(resident_frames, "_free_memory", lambda *_, free=free: int(free))
        assert resident_frames.load(ragged, SOME, PLAIN).sharded is sharded
    monkeypatch.setattr(resident_frames, "_free_memory", lambda *_: frames // 8)
    with pytest.raises(DataError, match=r"found \d+ frames of up to 100x90, .*take feed stream"):
        resident_frames.load(ragged, SOME, PLAIN)


def test_nothing_crosses_from_the_host_but_the_step(ragged: Dataset) -> None:
    config = dataclasses.replace(PLAIN, gain=0.1)
    loaded = resident_frames.load(ragged, SOME, config)
    batch = resident.make_batch(config, len(SOME), "batch", 8)
    many = jax.pmap(
        lambda frames, first: jax.lax.map(
            lambda step: batch(frames, step)["image"].mean(), first + jnp.arange(4)
        ),
        axis_name="batch",
    )
    steps = jax.device_put(np.full(8, 7, np.int32), loaded.frames.frames.sharding)
    many(loaded.frames, steps)
    with jax.transfer_guard("disallow"):
        means = many(loaded.frames, steps)
    feed = TrainFeed(ragged, SOME, config)
    expected = [feed.batch(config.seed, 7 + step)["image"] for step in range(4)]
    np.testing.assert_allclose(
        np.mean(means, axis=0), [image.mean() for image in expected], rtol=1e-5
    )


# ---- Bad records.


class Damaged:
    """A set of 300 records, three of whose frames cannot be read."""

    def __init__(self, ragged: Dataset, bad: tuple[int, ...], alone: bool = True) -> None:
        self.ragged, self.bad = ragged, bad
        self.records = [
            dataclasses.replace(
                ragged.records[i % 15],
                frame_sha256=f"{i if alone else i % 15}",
                image_id=f"image-{i}",
            )
            for i in range(300)
        ]

    def frame(self, index: int) -> np.ndarray:
        if index in self.bad:
            raise DataError(f"record {index} (image-{index}): found rubbish")
        return self.ragged.frame(index % 15)


def test_a_bad_record_stops_the_feed_by_name(ragged: Dataset) -> None:
    everything = np.arange(300, dtype=np.int32)
    with pytest.raises(DataError, match=r"record 7 \(image-7\): found rubbish"):
        one_device(Damaged(ragged, (7,)), PLAIN, everything)


def test_a_frame_is_read_from_whichever_of_its_records_is_good(ragged: Dataset) -> None:
    damaged = Damaged(ragged, (0, 1, 15), alone=False)
    assert one_device(damaged, PLAIN, np.arange(300, dtype=np.int32)).bad == ()


@pytest.mark.parametrize("options", [{}, {"mixup": 0.4, "input_size": 80}], ids=str)
def test_bad_records_can_be_skipped(ragged: Dataset, options: dict[str, Any]) -> None:
    config = dataclasses.replace(PLAIN, on_bad_record="skip", batch_size=300, seed=3, **options)
    everything = np.arange(300, dtype=np.int32)
    loaded = one_device(Damaged(ragged, (7, 30, 31)), config, everything)
    assert [index for index, _ in loaded.bad] == [7, 30, 31]
    assert loaded.bad[0][1] == "record 7 (image-7): found rubbish"
    found = batch_of(loaded, config, 0)
    whole = batch_of(one_device(Damaged(ragged, ()), config, everything), config, 0)
    # A batch is an epoch; no two of the three stand side by side in it.
    bad = np.flatnonzero(np.isin(whole["index"], [7, 30, 31]))
    rows = np.arange(300)
    rows[bad] = (bad + 1) % 300
    assert not np.isin(rows, bad).any()
    alike = np.ones(300, bool)
    if "target" in found:  # but for those that a bad row would have been mixed into
        drawn = TrainFeed(ragged, np.arange(22, dtype=np.int32), config).draws(config.seed, 0)
        alike = ~np.isin(drawn["partner"][rows], bad)
        assert (~alike).sum() == 3
    for name, values in found.items():
        np.testing.assert_array_equal(values[alike], whole[name][rows][alike], err_msg=name)


def test_at_most_one_in_a_hundred_training_records_is_skipped(ragged: Dataset) -> None:
    config = dataclasses.replace(PLAIN, on_bad_record="skip")
    everything = np.arange(300, dtype=np.int32)
    with pytest.raises(DataError, match="4 of 300 training records cannot be read, expected at"):
        one_device(Damaged(ragged, (7, 30, 31, 32)), config, everything)
    with pytest.raises(DataError, match=r"^record 250 \(image-250\): found rubbish$"):
        resident_frames.load(Damaged(ragged, (250,)), everything, config, count=200)


def test_a_batch_without_any_good_record_is_not_a_number(ragged: Dataset) -> None:
    config = dataclasses.replace(PLAIN, on_bad_record="skip", batch_size=1)
    loaded = one_device(Damaged(ragged, (7,)), config, np.arange(300, dtype=np.int32))
    feed = jax.jit(resident.make_batch(config, 300))
    for step in range(300):
        batch = feed(loaded.frames, step)
        assert bool(jnp.isnan(batch["image"]).all()) == (int(batch["index"][0]) == 7)


def test_the_next_good_row_stands_for_a_bad_one_cyclically() -> None:
    good = jnp.array([False, True, False, False, True, False])
    rows = jnp.arange(6, dtype=jnp.int32)
    assert resident.next_good(good, rows).tolist() == [1, 1, 4, 4, 4, 1]
    assert resident.next_good(good, rows[2:4]).tolist() == [4, 4]


# ---- What cannot be used.


@pytest.mark.parametrize("indices", [[], [1, 2, 1]])
def test_impossible_indices_are_refused(ragged: Dataset, indices: list[int]) -> None:
    with pytest.raises(ValueError, match="found none or a record twice"):
        resident_frames.load(ragged, np.array(indices, np.int32), PLAIN)


def test_a_frame_of_another_size_than_its_record_is_refused(ragged: Dataset) -> None:
    damaged = Damaged(ragged, ())
    damaged.records[4] = dataclasses.replace(damaged.records[4], height=63)
    with pytest.raises(DataError, match=r"\(image-4\): found a frame of 64x64, expected 64x63"):
        one_device(damaged, PLAIN, np.arange(9, dtype=np.int32))


def test_the_feed_needs_jax_and_numpy_only() -> None:
    code = (
        "import sys, thyrojax.data.resident\n"
        "heavy = {'cv2', 'grain', 'tensorflow_datasets', 'PIL', 'pandas', 'flax', 'scipy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
