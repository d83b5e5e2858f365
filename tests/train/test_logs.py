from __future__ import annotations

import dataclasses
import io
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.progress import Progress
from tensorboardX.proto import event_pb2

from thyrojax.config import Config
from thyrojax.data.dataset import open_dataset
from thyrojax.data.splits import read_split
from thyrojax.errors import ConfigError
from thyrojax.train.crop_sheet import CAPTION_HEIGHT, GAP, Crops, captions, draw_sheet
from thyrojax.train.feeds import Feeding, resident_feeding, stream_feeding
from thyrojax.train.logs import RunLog
from thyrojax.train.mapping import make_mapping

NAMES = ["benign", "malignant"]


def _events(run: Path) -> Iterator[Any]:
    """Events of a run, read as TensorFlow's record files: length, its CRC, content, its CRC."""
    for path in sorted(run.glob("events.out.tfevents.*")):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            yield event_pb2.Event.FromString(content[place + 12 : place + 12 + length])
            place += length + 16


def _values(run: Path) -> dict[str, dict[int, Any]]:
    """Tag to step to value, as TensorBoard shows them: a restart drops its own steps and later."""
    found: dict[str, dict[int, Any]] = {}
    for event in _events(run):
        if event.HasField("session_log"):
            for steps in found.values():
                for step in [step for step in steps if step >= event.step]:
                    del steps[step]
        for value in event.summary.value:
            shown = value.simple_value
            if value.HasField("image"):
                png = io.BytesIO(value.image.encoded_image_string)
                shown = np.asarray(Image.open(png).convert("L"))
            found.setdefault(value.tag, {})[event.step] = shown
    return found


def _line(step: int) -> dict[str, float]:
    return {"step": step, "loss": 0.5, "learning_rate": 1e-3, "gradient_norm": 2.0}


def test_tensorboard_has_all_figures_of_a_run(small_run: Path) -> None:
    lines = [json.loads(line) for line in (small_run / "metrics.jsonl").read_text().splitlines()]
    values = _values(small_run)

    for group, key in (("train", "loss"), ("validation", "val_auc")):
        for line in (line for line in lines if key in line):
            for name in set(line) - {"step", "epoch"}:
                assert values[f"{group}/{name}"][line["step"]] == pytest.approx(line[name])
    for name in ("loss", "accuracy", "learning_rate", "gradient_norm", "images_per_second"):
        assert sorted(values[f"train/{name}"]) == [2, 4, 6]
    assert sorted(values["validation/val_auc"]) == [4, 6]


def test_tensorboard_shows_the_first_crops_of_a_run_and_some_at_validations(
    small_run: Path, small_config: Config, phantom_set: Path
) -> None:
    shown = _values(small_run)["train/crops"]

    assert sorted(shown) == [1, 3]  # the first, and one before the validation after step 4
    feeding = _feeding(dataclasses.replace(small_config, feed="stream"), phantom_set, small_run)
    for step, sheet in shown.items():
        crops = feeding.look(step - 1)
        assert len(crops.label) == 8
        np.testing.assert_array_equal(sheet, draw_sheet(crops.image, captions(crops, NAMES)))


@pytest.mark.parametrize("mapping", ["pmap", "shard_map"])
@pytest.mark.parametrize("changes", [{}, {"mixup": 0.5, "rotation": 10.0}])
def test_both_feeds_show_the_same_crops(
    mapping: Any, changes: dict[str, Any], small_config: Config, phantom_set: Path, small_run: Path
) -> None:
    config = dataclasses.replace(small_config, mapping=mapping, **changes)
    stream = _feeding(dataclasses.replace(config, feed="stream"), phantom_set, small_run).look(5)
    resident = _feeding(dataclasses.replace(config, feed="resident"), phantom_set, small_run).look(
        5
    )

    assert len(resident.label) == 2  # a device's share of 16 rows over eight
    for name in Crops._fields:
        np.testing.assert_allclose(
            getattr(resident, name), getattr(stream, name)[:2], atol=2e-3, err_msg=name
        )


def _feeding(config: Config, data: Path, run: Path) -> Feeding:
    """A feeding whose steps are never taken: only what it shows is asked for."""
    dataset = open_dataset(data)
    mapping = make_mapping(config.mapping, lambda *_: None, lambda *_: None, config.batch_size)
    of = (config, mapping, dataset, *_parts(run, dataset))
    if config.feed == "stream":
        return stream_feeding(*of, 0)
    return resident_feeding(*of, lambda *_: None, lambda *_: None)


def _parts(run: Path, dataset: Any) -> tuple[Any, Any]:
    parts = read_split(run / "split.csv", dataset.records, [])
    return parts["train"], parts["validation"]


def test_a_resumed_run_hides_only_what_it_takes_again(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0, 6, quiet=True) as log:
        for step in (2, 4, 5):
            log.training(_line(step), 10.0 * step)
        log.validation({"step": 4, "epoch": 1.0, "val_auc": 0.75})
    time.sleep(1.1)  # the file's name has the second
    with RunLog(tmp_path, 4, 6, quiet=True) as log:
        log.training(_line(6), 60.0)
    values = _values(tmp_path)

    assert values["train/images_per_second"] == {2: 20.0, 4: 40.0, 6: 60.0}
    assert values["validation/val_auc"] == {4: 0.75}


def test_the_bar_tells_loss_rate_speed_and_the_last_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Progress, "update", lambda self, task, **now: told.append(now["figures"]))

    with RunLog(tmp_path, 0, 6, quiet=True) as log:
        log.training(_line(2), 123.45)
        log.validation({"step": 2, "epoch": 1.0, "val_auc": 0.75})
    with RunLog(tmp_path, 2, 6, quiet=True) as log:  # a resumed run knows its last validation
        log.training(_line(4), 67.0)

    assert [" ".join(line.split()) for line in told] == [
        "loss 0.500 rate 1.0e-03 123.5 images/s",
        "loss 0.500 rate 1.0e-03 123.5 images/s validation AUC 0.750",
        "loss 0.500 rate 1.0e-03 67.0 images/s validation AUC 0.750",
    ]


def test_captions_tell_margin_and_label_or_share_of_malignant() -> None:
    crops = Crops(
        image=np.zeros((3, 75, 75, 1), np.float32),
        label=np.array([0, 1, 1], np.int32),
        target=np.array([0.0, 1.0, 0.25], np.float32),
        margin=np.array([0, 100, 37], np.int32),
    )

    assert captions(crops, NAMES) == ["0 px benign", "100 px malignant", "37 px 0.25 malignant"]


def test_crops_are_shown_pixel_for_pixel_in_rows_of_four() -> None:
    images = np.random.default_rng(0).uniform(-20, 280, (5, 80, 80, 1)).astype(np.float32)
    sheet = draw_sheet(images, ["37 px malignant"] * 5)

    assert sheet.shape == (2 * 80 + 2 * CAPTION_HEIGHT + GAP, 4 * 80 + 3 * GAP)
    top, left = 80 + CAPTION_HEIGHT + GAP, 80 + GAP
    np.testing.assert_array_equal(sheet[:80, left : left + 80], _bytes(images[1]))
    np.testing.assert_array_equal(sheet[top : top + 80, :80], _bytes(images[4]))
    assert sheet[80 : 80 + CAPTION_HEIGHT, :80].max() > 200  # its caption
    assert sheet[top:, left:].max() == 0  # no crop, no caption


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image[..., 0], 0, 255)).astype(np.uint8)


def test_a_negative_number_of_crops_is_refused() -> None:
    with pytest.raises(ConfigError, match="log_images: found -1, expected a whole number >= 0"):
        Config(log_images=-1)
