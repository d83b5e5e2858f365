"""Counts of a set: by label, by part, of two sets; what margins do; and how groups differ."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entries import an_entry
from thyrojax.data.builder import build
from thyrojax.data.looking import Entry, LookedAt, open_set, open_source
from thyrojax.data.records import Box, Nodule, SourceData
from thyrojax.data.splits import write_split
from thyrojax.data.stats import (
    NOT_STATED,
    compare_counts,
    compute_statistics,
    standardised_difference,
)
from thyrojax.data.stats_figures import draw_statistics, write_figures
from thyrojax.data.stats_tables import format_statistics, write_tables
from thyrojax.errors import ConfigError


def looked_at(entries: list[Entry], name: str = "set", **info: Any) -> LookedAt:
    def no_frame(index: int) -> np.ndarray:
        raise AssertionError("counting needs no pixels")

    known = {"subject": "thyroid nodules", "label_names": ["benign", "malignant"]}
    return LookedAt(name, known | info, tuple(entries), no_frame)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_categories_are_counted_by_label_and_unstated_ones_come_last() -> None:
    entries = [
        an_entry(0, tirads="4a", size_mm=4.9),
        an_entry(1, tirads="4a", size_mm=10.0),
        an_entry(2, tirads="2", size_mm=10.1),
        an_entry(3, size_mm=30.0),
    ]
    found = compute_statistics([looked_at(entries)])
    counts = {each.name: each for each in found.counts}
    assert counts["TI-RADS"].words == ("2", "4a", NOT_STATED)
    np.testing.assert_array_equal(counts["TI-RADS"].by_group["set"], [[1, 1, 0], [0, 1, 1]])
    assert counts["size group (cm)"].words == ("<0.5", "0.5-1.0", ">1.0")
    np.testing.assert_array_equal(counts["size group (cm)"].by_group["set"], [[1, 0, 1], [0, 1, 1]])


def test_what_a_set_does_not_state_is_not_shown_and_is_said() -> None:
    found = compute_statistics([looked_at([an_entry(i, composition="solid") for i in range(4)])])
    assert [each.name for each in found.counts] == ["composition", "box"]
    assert "TI-RADS" in found.not_stated["set"]
    assert "size (mm)" in found.not_stated["set"]
    text = format_statistics(found)
    assert "set: not stated, so not shown: size group (cm), TI-RADS, echogenicity" in text
    assert set(draw_statistics(found)) == {"by_composition", "by_box", "boxes", "windows"}


def test_windows_that_leave_the_frame_or_cut_are_counted_over_margins() -> None:
    # In a frame of 120x90: the first box has 30 px to its left, 40 above and below the square of
    # its width; the second is 10 px wide and 30 high.
    entries = [
        an_entry(0, box=Box(30, 40, 40, 50)),
        an_entry(1, box=Box(55, 30, 65, 60)),
    ]
    found = compute_statistics([looked_at(entries)], margins=(0, 10, 31, 41))
    square = [each for each in found.windows if each.shape == "square"]
    assert [each.outside for each in square] == [0, 0, 1, 2]
    assert [each.cut for each in square] == [1, 0, 0, 0]
    rectangle = [each for each in found.windows if each.shape == "rectangle"]
    assert [each.outside for each in rectangle] == [0, 0, 2, 2]
    assert [each.cut for each in rectangle] == [0, 0, 0, 0]
    with pytest.raises(ConfigError, match="margins: found -1"):
        compute_statistics([looked_at(entries)], margins=(-1, 5))


def test_chi_squared_is_scipy_s_published_example() -> None:
    # The example of scipy.stats.chi2_contingency.
    found = compare_counts("example", np.array([[10, 10, 20], [20, 20, 20]]))
    assert found.chi_squared == pytest.approx(2.7777777777777777)
    assert found.degrees == 2
    assert found.p == pytest.approx(0.24935220877729614)
    assert found.standardised is None
    assert found.note == ""


def test_two_categories_have_a_standardised_difference_of_their_shares() -> None:
    # Shares 1/2 and 1/4: 0.25 / sqrt((0.25 + 0.1875) / 2).
    found = compare_counts("example", np.array([[10, 10], [3, 1]]))
    assert found.standardised == pytest.approx(0.25 / 0.21875**0.5)
    assert found.note == "fewer than 5 expected in 2 of 4 cells"
    assert compare_counts("example", np.array([[4, 0], [3, 0]])).note == "one category only"


def test_standardised_difference_is_in_pooled_standard_deviations() -> None:
    low, high = np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0, 5.0])
    assert standardised_difference([low, high]) == pytest.approx(-2.0)
    assert standardised_difference([low, low + 0.5, high]) == pytest.approx(-2.0)  # the largest
    assert standardised_difference([np.full(3, 1.0), np.full(3, 2.0)]) is None
    assert standardised_difference([low, np.array([1.0])]) is None


def test_two_sets_stand_side_by_side_and_lacks_are_named(tmp_path: Path) -> None:
    first = looked_at([an_entry(i, tirads="2") for i in range(6)], label_names=["low", "high"])
    second = looked_at([an_entry(i, size_mm=8.0 + i) for i in range(8)], subject="breast lesions")
    found = compute_statistics([first, second])
    write_tables(tmp_path, found)
    assert rows_of(tmp_path / "differences.csv")[0]["property"] == "label"
    assert [group.name for group in found.groups] == ["set (1)", "set (2)"]
    differences = {each.name: each for each in found.differences}
    assert differences["TI-RADS"].note == "not stated by set (2)"
    assert differences["size (mm)"].note == "not stated by set (1)"
    assert differences["box width (px)"].standardised == 0.0
    text = format_statistics(found)
    assert "set (2): breast lesions" in text
    assert "low" in text


def duplicate_source() -> SourceData:
    """Eight patients, of which the first two show one frame."""
    nodules = tuple(
        Nodule(
            image=_Frame(max(i, 1)),
            image_id=f"image-{i}",
            patient_id=f"patient-{i}",
            box=Box(20, 15, 50, 40),
            label=i % 2,
            tirads="4a",
        )
        for i in range(8)
    )
    return SourceData("csv", nodules, (), 8)


class _Frame:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self) -> np.ndarray:
        return np.random.default_rng(self.seed).integers(0, 256, (60, 80), np.uint8)


def test_patients_who_share_a_frame_are_joined(tmp_path: Path) -> None:
    folder = build(duplicate_source(), tmp_path / "twins", False)
    found = compute_statistics([open_set(folder)])
    assert found.joined == {"twins": (1, 0, 7)}
    assert "twins: pairs of patients with an identical frame 1" in format_statistics(found)


def test_parts_of_a_split_add_up_to_the_set(set_folder: Path, tmp_path: Path) -> None:
    looked = open_set(set_folder)
    assert looked.dataset is not None
    records = looked.dataset.records
    # Two views for every patient, every other patient malignant.
    ends = {"train": (0, 12), "validation": (12, 18), "test": (18, len(records))}
    parts = {part: np.arange(*end, dtype=np.int32) for part, end in ends.items()}
    write_split(tmp_path / "split.csv", records, parts)
    found = compute_statistics([looked], tmp_path / "split.csv")
    assert [group.name for group in found.groups] == ["train", "validation", "test"]
    assert sum(len(group.entries) for group in found.groups) == len(records)
    (box,) = [each for each in found.counts if each.name == "box"]
    by_label = sum(table.sum(axis=1) for table in box.by_group.values())
    np.testing.assert_array_equal(
        by_label, [sum(record.label == label for record in records) for label in (0, 1)]
    )
    assert found.differences
    with pytest.raises(ConfigError, match="split: found 2 sets, expected one built set"):
        compute_statistics([looked, looked], tmp_path / "split.csv")


def test_tables_hold_every_nodule_once_for_each_property(tmp_path: Path) -> None:
    entries = [an_entry(i, tirads="4b" if i % 3 else None, size_mm=5.0 + i) for i in range(9)]
    found = compute_statistics([looked_at(entries, exclusions={"no box": 3})])
    write_tables(tmp_path, found)
    for name in ("TI-RADS", "box", "size group (cm)"):
        of_property = [row for row in rows_of(tmp_path / "groups.csv") if row["property"] == name]
        assert sum(int(row["n"]) for row in of_property) == 9
        shares = [float(row["share"]) for row in of_property if row["label"] == "benign"]
        assert sum(shares) == pytest.approx(1.0, abs=1e-5)
    sizes = {
        row["label"]: row
        for row in rows_of(tmp_path / "quantities.csv")
        if row["quantity"] == "size (mm)"
    }
    assert sizes["all"]["median"] == "9"
    assert sizes["malignant"]["n"] == "4"
    assert {"set": "set", "what": "left out: no box", "n": "3"} in rows_of(tmp_path / "sets.csv")
    assert not (tmp_path / "differences.csv").exists()


def test_figures_are_written_as_png_and_svg(tmp_path: Path) -> None:
    sets = [
        looked_at([an_entry(i, shape="taller") for i in range(5)], "one"),
        looked_at([an_entry(i) for i in range(7)], "two"),
    ]
    write_figures(tmp_path, draw_statistics(compute_statistics(sets)))
    names = {"by_box", "by_shape", "boxes", "windows"}
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{end}" for name in names for end in ("png", "svg")
    }
    assert (tmp_path / "boxes.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "windows.svg").read_text()


def test_a_source_is_counted_as_it_lies() -> None:
    looked = open_source("phantom", None, limit=6, n_patients=5)
    assert len(looked.entries) == 6
    assert looked.info["n_nodules"] > 6
    assert looked.frame(5).shape == (looked.entries[5].height, looked.entries[5].width)
    found = compute_statistics([looked])
    assert found.joined == {}
    assert found.groups[0].name == "phantom"


def test_boxes_beyond_a_source_s_frames_are_all_named(
    tmp_path: Path, make_source: Callable[..., SourceData], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from thyrojax.data import looking
    from thyrojax.errors import DataFaults

    source = make_source(4)
    beyond = tuple(
        dataclasses.replace(nodule, box=Box(20, 15, 90 + i, 40)) if i else nodule
        for i, nodule in enumerate(source.nodules)
    )
    monkeypatch.setattr(
        looking, "read_source", lambda name, path: dataclasses.replace(source, nodules=beyond)
    )
    with pytest.raises(DataFaults) as caught:
        open_source("csv", tmp_path)
    assert [fault.row for fault in caught.value.faults] == ["image-1", "image-2", "image-3"]
    assert "box 20 15 91 40, expected a box inside the 80x60 image" in str(caught.value)
