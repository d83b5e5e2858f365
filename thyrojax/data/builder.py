"""The TFDS builder: from the records of a source to a folder of ArrayRecord files.

The folder is a TFDS version folder, so that `tfds.builder_from_directory(folder)` opens it, and
with this module imported also `tfds.data_source("thyroid_ultrasound/SOURCE", data_dir=folder)`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from thyrojax.data import near_duplicates, shard_runners, shards, sidecar
from thyrojax.data.dataset import DATA_FILE, VERSION, Record, fingerprint, open_dataset
from thyrojax.data.decoding import decode_frame
from thyrojax.data.encoded import INFO_FILE, SPLIT, EncodedFrames
from thyrojax.data.incomplete import REPLACED, incomplete_folder, work_folder
from thyrojax.data.records import SourceData
from thyrojax.data.sources import KINDS
from thyrojax.errors import ConfigError, DataError
from thyrojax.files import write_csv
from thyrojax.vocabulary import LABELS

EXCLUSIONS_FILE = "exclusions.csv"


@dataclass
class SourceConfig(tfds.core.BuilderConfig):
    """What a source's pictures and labels are to be called wherever its results are shown."""

    subject: str = ""
    label_names: tuple[str, str] = LABELS


def _source_config(name: str, subject: str, label_names: tuple[str, str]) -> SourceConfig:
    return SourceConfig(
        name=name,
        description=f"{subject}: {label_names[0]} or {label_names[1]}",
        subject=subject,
        label_names=label_names,
    )


class ThyroidUltrasound(tfds.core.ShardBasedBuilder):
    """Grey ultrasound frames with one nodule's box, label and features each.

    Without `parts`, the shards to write, it reads what was built before. TFDS's own
    `download_and_prepare` writes the same examples into the same shards as `build`, but starts
    again when it was killed, and only what TFDS needs to read them.
    """

    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS's own way of declaring them)
        _source_config(name, kind.subject, kind.label_names) for name, kind in KINDS.items()
    ]

    def __init__(
        self,
        *,
        parts: Sequence[shards.Shard] = (),
        file_format: str | None = "array_record",
        **kwargs: Any,
    ) -> None:
        self._parts = parts
        super().__init__(file_format=file_format, **kwargs)

    def _build_data_dir(self, given_data_dir: str | None) -> tuple[str, str]:
        # A built set stands in the folder its user named, not below TFDS's name/config/version.
        if given_data_dir and (Path(given_data_dir) / DATA_FILE).is_file():
            return given_data_dir, given_data_dir
        return super()._build_data_dir(given_data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Ultrasound frames with the box, label and features of one nodule each.",
            features=shards.features(self.builder_config.label_names),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # records stay in the order of their source
        )

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> Any:
        if not self._parts:
            raise DataError(
                f"{self.data_dir}: found no built set, expected one made by `thyrojax data build`"
            )
        return {SPLIT: [functools.partial(shards.examples, part) for part in self._parts]}


def build(
    data: SourceData,
    out: Path,
    mask_overlay: bool,
    overwrite: bool = False,
    progress: bool = False,
    workers: int = 1,
    beam_runner: str | None = None,
    beam_options: Sequence[str] = (),
) -> Path:
    """Writes a source's nodules as a TFDS set into the folder `out`, all or nothing.

    Beside TFDS's files the folder holds records.parquet (what is known of every nodule),
    near_duplicates.csv (pairs of frames of different patients that look alike), exclusions.csv
    (image_id, reason, detail of all that the source left out) and data.json (what the set is, in
    counts). With `mask_overlay`, what a frame shows outside its scan sector is blanked before it is
    stored. `overwrite` replaces a built set, and nothing else. `progress` shows a bar on stderr.

    The shards are written by this process, by `workers` processes (started by spawn: a script that
    builds needs its `if __name__ == "__main__"`), or, with `beam_runner`, by an Apache Beam
    pipeline (`shard_runners.beam`); the set is the same, byte for byte. Until it is whole it
    lies in a hidden folder beside `out`. A build that was killed there goes on where it stopped
    when it is started again with the same nodules, image files and options.

    Raises:
      DataError: `out` is not empty or a mount point, or another build is at work on it; the source
        has no nodule, or an unknown name; or, in one line each, every frame that cannot be read,
        box that is not inside its frame, or repeated id.
      ConfigError: no workers; Beam is not installed, or knows no such runner; options of Beam's
        without a runner, or `workers` with one.
      ThyrojaxError: a worker process died.
    """
    out = Path(out)
    if beam_runner is None and beam_options:
        raise ConfigError("--beam-option: found no --beam-runner beside it, expected one")
    if beam_runner is not None and workers != 1:
        raise ConfigError(
            f"workers: found {workers} and a Beam runner, expected one of the two; the runner has "
            "options of its own for it"
        )
    _check_target(out, overwrite)
    _check_data(data)
    if beam_runner is None:
        write = shard_runners.processes(workers, progress)
    else:
        write = shard_runners.beam(beam_runner, beam_options)
    place = Path(os.path.realpath(out))
    with incomplete_folder(place) as folder:
        _check_target(out, overwrite)
        parts = _shards(data, mask_overlay, work_folder(folder, data, mask_overlay))
        write(parts)
        if faults := shard_runners.faults(parts):
            shutil.rmtree(parts[0].work)
            raise DataError("\n".join(faults))
        built = _complete(data, mask_overlay, parts)
        open_dataset(built)
        _check_target(out, overwrite)  # building may have taken hours
        if place.exists() and any(place.iterdir()):
            os.replace(place, folder / REPLACED)
        os.replace(built, place)
        for path in (parts[0].work, folder / REPLACED):
            shutil.rmtree(path, ignore_errors=True)
    return out


# Whatever a built set consists of, and what a file manager leaves in every folder.
_OURS = re.compile(
    rf"{DATA_FILE}|{INFO_FILE}|features\.json|.*\.labels\.txt|{sidecar.RECORDS_FILE}"
    rf"|{sidecar.NEAR_DUPLICATES_FILE}|{EXCLUSIONS_FILE}|.*\.array_record-\d+-of-\d+|\.DS_Store"
)


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out}: found a file, expected a new or empty folder")
    if os.path.ismount(out):  # a set is moved into place whole
        raise DataError(f"{out}: found a mount point, expected a folder within one")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise DataError(f"{out}: found a folder that is not empty, expected a new or empty one")
    if not (out / DATA_FILE).is_file() or not (out / INFO_FILE).is_file():
        raise DataError(f"{out}: found a folder that is no built set, expected one to overwrite")
    if foreign := sorted(path.name for path in out.iterdir() if not _OURS.fullmatch(path.name)):
        raise DataError(
            f"{out}: found {foreign[0]}, which is no part of a built set, expected a set alone, as "
            "all of it is replaced"
        )


def _check_data(data: SourceData) -> None:
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


def _shards(data: SourceData, mask_overlay: bool, work: Path) -> list[shards.Shard]:
    plan = shards.plan(len(data.nodules))
    return [
        shards.Shard(
            number=number,
            count=len(plan),
            start=positions.start,
            source=data.source,
            label_names=KINDS[data.source].label_names,
            mask_overlay=mask_overlay,
            nodules=data.nodules[positions.start : positions.stop],
            work=work,
        )
        for number, positions in enumerate(plan)
    ]


def _complete(data: SourceData, mask_overlay: bool, parts: Sequence[shards.Shard]) -> Path:
    """Adds to the finished shards what makes a set of them, data.json last; returns its folder."""
    folder = parts[0].path.parent
    sidecar.join_records(folder / sidecar.RECORDS_FILE, [part.records_path for part in parts])
    records, _ = sidecar.read_records(folder / sidecar.RECORDS_FILE)
    _write_tfds_info(data.source, parts, folder)
    sidecar.write_near_duplicates(
        folder / sidecar.NEAR_DUPLICATES_FILE, _near_duplicates(records, folder), records
    )
    excluded = ((item.image_id, item.reason, item.detail) for item in data.exclusions)
    write_csv(folder / EXCLUSIONS_FILE, [("image_id", "reason", "detail"), *excluded])
    info = {
        "version": VERSION,
        "source": data.source,
        "subject": KINDS[data.source].subject,
        "label_names": list(KINDS[data.source].label_names),
        "n_images": data.n_images,
        "n_nodules": len(records),
        "n_patients": len({record.patient_id for record in records}),
        "exclusions": dict(sorted(Counter(item.reason for item in data.exclusions).items())),
        "notes": list(data.notes),
        "mask_overlay": mask_overlay,
        "fingerprint": fingerprint(records),
        "sha256": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in (sidecar.RECORDS_FILE, sidecar.NEAR_DUPLICATES_FILE)
        },
    }
    (folder / DATA_FILE).write_text(json.dumps(info, indent=2) + "\n")
    return folder


def _near_duplicates(records: Sequence[Record], folder: Path) -> list[near_duplicates.Pair]:
    frames = EncodedFrames(folder)

    def frame_of(position: int) -> np.ndarray:
        frame = decode_frame(frames[position])
        if frame is None:
            raise OSError(f"{folder}: record {position} was written and cannot be decoded")
        return frame

    return near_duplicates.find(
        [record.perceptual_hash for record in records],
        frame_of,
        [record.patient_id for record in records],
        same=[record.image_sha256 for record in records],  # the split joins those
    )


def _write_tfds_info(source: str, parts: Sequence[shards.Shard], folder: Path) -> None:
    """Writes dataset_info.json, features.json and the names of the labels."""
    builder = ThyroidUltrasound(data_dir=folder, config=source)
    split = tfds.core.SplitInfo(
        name=SPLIT,
        shard_lengths=[len(part.nodules) for part in parts],
        num_bytes=sum(part.path.stat().st_size for part in parts),
        filename_template=builder._get_filename_template(SPLIT),
    )
    builder.info.set_splits(tfds.core.splits.SplitDict([split]))
    builder.info.write_to_directory(folder)
