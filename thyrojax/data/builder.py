"""The TFDS builder: from the records of a source to a folder of ArrayRecord files.

The folder is a TFDS version folder, so that `tfds.builder_from_directory(folder)` opens it, and
with this module imported also `tfds.data_source("thyroid_ultrasound/SOURCE", data_dir=folder)`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from thyrojax.data.dataset import (
    DATA_FILE,
    SPLIT,
    Record,
    fingerprint,
    frame_digest,
    open_dataset,
    to_features,
)
from thyrojax.data.records import LABELS, Nodule, SourceData, box_fault, load_image
from thyrojax.errors import DataError
from thyrojax.shapes import UInt8

EXCLUSIONS_FILE = "exclusions.csv"


@dataclass
class SourceConfig(tfds.core.BuilderConfig):
    """What a source's pictures and labels are to be called wherever its results are shown."""

    subject: str = ""
    label_names: tuple[str, str] = LABELS


def _source_config(name: str, subject: str, label_names: tuple[str, str] = LABELS) -> SourceConfig:
    return SourceConfig(
        name=name,
        description=f"{subject}: {label_names[0]} or {label_names[1]}",
        subject=subject,
        label_names=label_names,
    )


class ThyroidUltrasound(tfds.core.GeneratorBasedBuilder):
    """Grey ultrasound frames with one nodule's box, label and features each.

    `build` gives it the data to write; without them it reads what was built before. While it
    writes, it gathers `records` as they are stored.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS's own way of declaring them)
        _source_config("csv", "thyroid nodules"),
        _source_config("phantom", "thyroid nodules"),
        _source_config("busbra", "breast lesions"),
        _source_config(
            "ddti", "thyroid nodules", ("TI-RADS-benign (2, 3)", "TI-RADS-suspicious (4a-5)")
        ),
    ]

    def __init__(
        self,
        *,
        data: SourceData | None = None,
        mask_overlay: bool = False,
        file_format: str | None = "array_record",
        **kwargs: Any,
    ) -> None:
        self._data = data
        self._mask_overlay = mask_overlay
        self.records: list[Record] = []
        super().__init__(file_format=file_format, **kwargs)

    def _build_data_dir(self, given_data_dir: str | None) -> tuple[str, str]:
        # A built set stands in the folder its user named, not below TFDS's name/config/version.
        if given_data_dir and (Path(given_data_dir) / DATA_FILE).is_file():
            return given_data_dir, given_data_dir
        return super()._build_data_dir(given_data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text
        number = tfds.features.Scalar
        unknown_text, unknown_number = '"" where not known', "NaN where not known"
        return tfds.core.DatasetInfo(
            builder=self,
            description="Ultrasound frames with the box, label and features of one nodule each.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(None, None, 1), dtype=np.uint8, encoding_format="png"
                    ),
                    "image_id": text(doc="unique for each nodule"),
                    "patient_id": text(),
                    "box": tfds.features.Tensor(
                        shape=(4,),
                        dtype=np.int32,
                        doc="x_min, y_min, x_max, y_max in whole pixels, half-open",
                    ),
                    "label": tfds.features.ClassLabel(names=self.builder_config.label_names),
                    "size_mm": number(np.float32, doc=f"largest diameter; {unknown_number}"),
                    "tirads": text(doc=unknown_text),
                    "composition": text(doc=unknown_text),
                    "echogenicity": text(doc=unknown_text),
                    "calcification": text(doc=unknown_text),
                    "margin": text(doc=unknown_text),
                    "shape": text(doc=unknown_text),
                    "pixel_spacing_mm": number(np.float32, doc=f"mm per pixel; {unknown_number}"),
                    "reader_label": number(np.int32, doc="a reader's call; -1 where not known"),
                    "image_sha256": text(
                        doc="of the source's decoded frame: height, width, pixels"
                    ),
                    "frame_sha256": text(doc="of the frame as stored, after masking"),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # records stay in the order of their source
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        if self._data is None:
            raise DataError(
                f"{self.data_dir}: found no built set, expected one made by `thyrojax data build`"
            )
        return {SPLIT: self._generate_examples(self._data)}

    def _generate_examples(self, data: SourceData) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields (position, example) in the source's order; raises all faults at the end."""
        faults: list[str] = []
        last_image: Any = None
        stored = _StoredFrame("", "", 0, 0, b"")
        for nodule in data.nodules:
            try:
                if nodule.image != last_image:  # an image with several nodules is decoded once
                    stored = _store(load_image(nodule.image), self._mask_overlay)
                    last_image = nodule.image
            except DataError as error:
                faults.append(f"{nodule.image_id}: {error}")
                continue
            record = _record(nodule, stored)
            file = str(nodule.image) if isinstance(nodule.image, Path) else data.source
            fault = box_fault(record.box, record.width, record.height, file, record.image_id)
            if fault is not None:
                faults.append(str(fault))
                continue
            self.records.append(record)
            yield len(self.records) - 1, to_features(record, stored.png)
        if faults:
            raise DataError("\n".join(faults))


class _StoredFrame(NamedTuple):
    image_sha256: str
    frame_sha256: str
    height: int
    width: int
    png: bytes


def _store(image: UInt8[np.ndarray, "height width"], mask_overlay: bool) -> _StoredFrame:
    import cv2

    from thyrojax.data import sector

    frame = sector.mask_overlay(image) if mask_overlay else image
    encoded, png = cv2.imencode(".png", frame)
    if not encoded:
        raise RuntimeError("OpenCV could not encode a frame as PNG")
    height, width = frame.shape
    return _StoredFrame(frame_digest(image), frame_digest(frame), height, width, png.tobytes())


def _record(nodule: Nodule, stored: _StoredFrame) -> Record:
    """The record as it will be read back: numbers rounded to the float32 that TFDS stores."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else float(np.float32(value))

    return Record(
        image_id=nodule.image_id,
        patient_id=nodule.patient_id,
        box=nodule.box,
        label=nodule.label,
        size_mm=rounded(nodule.size_mm),
        tirads=nodule.tirads,
        composition=nodule.composition,
        echogenicity=nodule.echogenicity,
        calcification=nodule.calcification,
        margin=nodule.margin,
        shape=nodule.shape,
        pixel_spacing_mm=rounded(nodule.pixel_spacing_mm),
        reader_label=nodule.reader_label,
        image_sha256=stored.image_sha256,
        frame_sha256=stored.frame_sha256,
        height=stored.height,
        width=stored.width,
    )


def build(
    data: SourceData,
    out: Path,
    mask_overlay: bool,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Writes a source's nodules as a TFDS set into the folder `out`, all or nothing.

    Beside TFDS's files the folder holds data.json (what the set is, in counts) and exclusions.csv
    (image_id, reason, detail of all that the source left out). With `mask_overlay`, what a frame
    shows outside its scan sector is blanked before it is stored. `overwrite` replaces a built set,
    and nothing else. `progress` shows TFDS's bars on stderr.

    Raises:
      DataError: `out` is not empty; the source has no nodule, or an unknown name; or, in one line
        each, every frame that cannot be read, box that is not inside its frame, or repeated id.
    """
    out = Path(out)
    _check_target(out, overwrite)
    names = [config.name for config in ThyroidUltrasound.BUILDER_CONFIGS]
    if data.source not in names:
        raise DataError(f"source: found {data.source!r}, expected one of {', '.join(names)}")
    if not data.nodules:
        raise DataError(f"source {data.source}: found no usable nodule, expected at least one")
    repeated = [n for n, k in Counter(nodule.image_id for nodule in data.nodules).items() if k > 1]
    if repeated:
        raise DataError(
            "\n".join(
                f"source {data.source}: found image_id {name} more than once, expected unique ids"
                for name in repeated
            )
        )
    if not progress:
        tfds.disable_progress_bar()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".incomplete", dir=out.parent))
    try:
        built = _write_set(data, temporary, mask_overlay)
        open_dataset(built)  # what was written reads back, record for record
        _move_into_place(built, out, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out}: found a file, expected a new or empty folder")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise DataError(f"{out}: found a folder that is not empty, expected a new or empty one")
    if not (out / DATA_FILE).is_file() or not (out / "dataset_info.json").is_file():
        raise DataError(f"{out}: found a folder that is no built set, expected one to overwrite")


def _write_set(data: SourceData, temporary: Path, mask_overlay: bool) -> Path:
    """Writes the whole set somewhere below `temporary`; returns its folder."""
    builder = ThyroidUltrasound(
        data=data, mask_overlay=mask_overlay, data_dir=temporary, config=data.source
    )
    # TFDS tells of folders and downloads on stdout, which is for results.
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(
            download_dir=temporary / "downloads",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
    folder = Path(builder.data_dir)
    with (folder / EXCLUSIONS_FILE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "reason", "detail"])
        writer.writerows((item.image_id, item.reason, item.detail) for item in data.exclusions)
    info = {
        "source": data.source,
        "subject": builder.builder_config.subject,
        "label_names": list(builder.builder_config.label_names),
        "n_images": data.n_images,
        "n_nodules": len(builder.records),
        "n_patients": len({record.patient_id for record in builder.records}),
        "exclusions": dict(sorted(Counter(item.reason for item in data.exclusions).items())),
        "mask_overlay": mask_overlay,
        "fingerprint": fingerprint(builder.records),
    }
    (folder / DATA_FILE).write_text(json.dumps(info, indent=2) + "\n")
    return folder


def _move_into_place(built: Path, out: Path, temporary: Path) -> None:
    replaced = temporary / "replaced"
    if out.exists() and any(out.iterdir()):
        os.replace(out, replaced)
    try:
        os.replace(built, out)
    except OSError:
        if replaced.exists():
            os.replace(replaced, out)
        raise
