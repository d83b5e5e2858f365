from __future__ import annotations

import csv
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.data.records import Box
from thyrojax.data.sources import SOURCES, read_source
from thyrojax.errors import DataError, DataFaults

ROW = {
    "image": "frames/a.png",
    "image_id": "a",
    "patient_id": "p1",
    "x_min": "10",
    "y_min": "20",
    "x_max": "40",
    "y_max": "50",
    "label": "1",
}


def write_frame(path: Path, seed: int = 0, width: int = 64, height: int = 60) -> None:
    path.parent.mkdir(exist_ok=True)
    frame = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    cv2.imwrite(str(path), frame)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("abc"):
        write_frame(tmp_path / "frames" / f"{name}.png", seed)
    return tmp_path


def write_table(folder: Path, *rows: dict[str, str]) -> Path:
    """A CSV file of ROW with each row's changes."""
    path = folder / "nodules.csv"
    columns = list({name: None for row in (ROW, *rows) for name in row})
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows({**ROW, **row} for row in rows)
    return path


def faults_of(path: Path) -> list[str]:
    with pytest.raises(DataFaults) as caught:
        read_source("csv", path)
    assert all("\n" not in str(fault) for fault in caught.value.faults)
    return [str(fault).replace(str(path), "TABLE") for fault in caught.value.faults]


def test_a_whole_row_becomes_a_nodule(folder: Path) -> None:
    path = write_table(
        folder,
        {
            "size_mm": "8.5",
            "tirads": "4A",
            "composition": "Solid",
            "echogenicity": "Markedly hypoechoic",
            "calcification": "comet-tail",
            "margin_feature": "ill-defined",
            "shape": "taller",
            "pixel_spacing_mm": "0.1",
            "reader_label": "benign",
        },
    )
    data = read_source("csv", path)
    (nodule,) = data.nodules
    assert (data.source, data.n_images, data.exclusions) == ("csv", 1, ())
    assert nodule.image == folder / "frames" / "a.png"
    assert (nodule.image_id, nodule.patient_id, nodule.label) == ("a", "p1", 1)
    assert nodule.box == Box(10, 20, 40, 50)
    assert (nodule.size_mm, nodule.pixel_spacing_mm, nodule.reader_label) == (8.5, 0.1, 0)
    assert (nodule.tirads, nodule.composition, nodule.shape) == ("4a", "solid", "taller")
    assert (nodule.echogenicity, nodule.margin) == ("markedly_hypoechoic", "ill_defined")
    assert nodule.calcification == "comet_tail"


def test_empty_optional_cells_are_unknown(folder: Path) -> None:
    path = write_table(folder, {"size_mm": "", "tirads": "", "margin": "", "reader_label": ""})
    (nodule,) = read_source("csv", path).nodules
    assert nodule.size_mm is nodule.tirads is nodule.margin is nodule.reader_label is None


def test_fractional_boxes_are_rounded_outward(folder: Path) -> None:
    edges = {"x_min": "10.9", "y_min": "20.1", "x_max": "40.1", "y_max": "59.2"}
    assert read_source("csv", write_table(folder, edges)).nodules[0].box == Box(10, 20, 41, 60)


@pytest.mark.parametrize(
    ("word", "label"), [("0", 0), ("1", 1), ("Benign", 0), ("MALIGNANT", 1), ("1.0", 1)]
)
def test_labels_are_numbers_or_words(folder: Path, word: str, label: int) -> None:
    assert read_source("csv", write_table(folder, {"label": word})).nodules[0].label == label


def test_two_nodules_of_one_image_count_one_image(folder: Path) -> None:
    data = read_source("csv", write_table(folder, {}, {"image_id": "a-2", "x_max": "60"}))
    assert (len(data.nodules), data.n_images) == (2, 1)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(folder: Path) -> None:
    path = write_table(folder, {})
    text = path.read_text().replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(read_source("csv", path).nodules) == 1


def test_lines_without_content_are_skipped_but_counted(folder: Path) -> None:
    path = write_table(folder, {}, {"image_id": "b", "label": "x"})
    header, first, second = path.read_text().splitlines()
    path.write_text("\n".join([header, first, "", "," * 7, second, ""]))
    assert faults_of(path) == ["TABLE, row 4: found label 'x', expected 0, 1, benign or malignant"]


def test_header_names_may_differ_in_case_and_hyphens(folder: Path) -> None:
    path = write_table(folder, {"SIZE-mm": "9"})
    path.write_text(path.read_text().replace("patient_id", "Patient ID"))
    nodule = read_source("csv", path).nodules[0]
    assert (nodule.patient_id, nodule.size_mm) == ("p1", 9.0)


@pytest.mark.parametrize(
    ("changes", "found", "expected"),
    [
        ({"label": "2"}, "label '2'", "0, 1, benign or malignant"),
        ({"label": ""}, "an empty label", "a value"),
        ({"patient_id": " "}, "an empty patient_id", "a value"),
        ({"image_id": ""}, "an empty image_id", "a value"),
        ({"image": ""}, "an empty image", "a value"),
        ({"x_min": ""}, "an empty x_min", "a value"),
        ({"x_min": "ten"}, "x_min 'ten'", "a finite number"),
        ({"y_max": "nan"}, "y_max 'nan'", "a finite number"),
        ({"x_max": "inf"}, "x_max 'inf'", "a finite number"),
        ({"x_max": "65"}, "box 10 20 65 50", "a box inside the 64x60 image"),
        ({"y_max": "60.5"}, "box 10 20 40 61", "a box inside the 64x60 image"),
        ({"x_min": "-0.5"}, "box -1 20 40 50", "a box inside the 64x60 image"),
        ({"x_max": "10"}, "box 10 20 10 50 of no area", "x_min < x_max and y_min < y_max"),
        ({"y_max": "20"}, "box 10 20 40 20 of no area", "x_min < x_max and y_min < y_max"),
        ({"y_min": "20.5", "y_max": "20.5"}, "box 10 20.5 40 20.5 of no area", "x_min < x_max"),
        ({"x_min": "41"}, "box 41 20 40 50 of no area", "x_min < x_max and y_min < y_max"),
        ({"size_mm": "-3"}, "size_mm -3", "a number > 0"),
        ({"size_mm": "0"}, "size_mm 0", "a number > 0"),
        ({"size_mm": "1e999"}, "size_mm '1e999'", "a finite number"),
        ({"pixel_spacing_mm": "-0.1"}, "pixel_spacing_mm -0.1", "a number > 0"),
        ({"tirads": "4"}, "tirads '4'", "one of 2, 3, 4a, 4b, 4c, 5"),
        ({"composition": "dense"}, "composition 'dense'", "one of solid, cystic, spongiform"),
        ({"echogenicity": "dark"}, "echogenicity 'dark'", "one of hyperechoic"),
        ({"calcification": "some"}, "calcification 'some'", "one of micro, macro"),
        ({"margin": "spiky"}, "margin 'spiky'", "one of smooth, irregular"),
        ({"shape": "round"}, "shape 'round'", "one of wider, taller"),
        ({"reader_label": "maybe"}, "reader_label 'maybe'", "0, 1, benign or malignant"),
    ],
)
def test_a_faulty_cell_is_named_by_row(
    folder: Path, changes: dict[str, str], found: str, expected: str
) -> None:
    path = write_table(folder, {}, {"image": "frames/b.png", "image_id": "b", **changes})
    (fault,) = faults_of(path)
    assert fault.startswith(f"TABLE, row 2: found {found}, expected {expected}")


@pytest.mark.parametrize("column", list(ROW))
def test_a_missing_column_is_named(folder: Path, column: str) -> None:
    path = write_table(folder, {})
    path.write_text(path.read_text().replace(column, f"other_{column}", 1))
    assert any(f"expected a column '{column}'" in fault for fault in faults_of(path))


def test_an_image_that_is_not_there(folder: Path) -> None:
    (fault,) = faults_of(write_table(folder, {"image": "frames/x.png"}))
    assert fault.startswith("TABLE, row 1: found no such file at ")
    assert fault.endswith("x.png, expected an image")


def test_a_truncated_image(folder: Path) -> None:
    image = folder / "frames" / "a.png"
    image.write_bytes(image.read_bytes()[:1000])
    (fault,) = faults_of(write_table(folder, {}))
    assert "row 1: found an unreadable image" in fault
    assert "a.png" in fault


@pytest.mark.parametrize("name", ["deep.png", "deep_colour.png", "deep.tif"])
def test_sixteen_bit_images_are_refused(folder: Path, name: str) -> None:
    shape = (60, 64, 3) if "colour" in name else (60, 64)
    cv2.imwrite(str(folder / name), np.full(shape, 40000, np.uint16))
    (fault,) = faults_of(write_table(folder, {"image": name}))
    assert fault.endswith("expected 8 bits per channel")


def test_an_image_that_is_text_or_a_folder(folder: Path) -> None:
    (folder / "notes.png").write_text("no image")
    path = write_table(folder, {"image": "notes.png"}, {"image": "frames", "image_id": "b"})
    assert [fault.partition(" (")[0] for fault in faults_of(path)] == [
        "TABLE, row 1: found an unreadable image",
        "TABLE, row 2: found an unreadable image",
    ]


def test_each_row_of_an_unreadable_image_is_named(folder: Path) -> None:
    path = write_table(folder, {"image": "x.png"}, {"image": "x.png", "image_id": "b"})
    assert [fault.split(":")[0] for fault in faults_of(path)] == ["TABLE, row 1", "TABLE, row 2"]


def test_a_duplicate_image_id_names_both_rows(folder: Path) -> None:
    path = write_table(folder, {}, {"image": "frames/b.png"})
    assert faults_of(path) == [
        "TABLE, row 2: found image_id 'a' of row 1 again, expected a unique one"
    ]


def test_one_image_cannot_have_two_labels(folder: Path) -> None:
    path = write_table(folder, {}, {"image_id": "b", "label": "0"})
    assert faults_of(path) == [
        "TABLE, row 2: found label 0 of image 'frames/a.png', which row 1 labels 1, "
        "expected one label for an image"
    ]


def test_identical_copies_of_an_image_cannot_have_two_labels(folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "frames" / "a.png").read_bytes())
    path = write_table(folder, {}, {"image": "copy.png", "image_id": "b", "label": "benign"})
    assert "which row 1 labels 1" in faults_of(path)[0]


def test_all_faults_of_a_file_are_told_together(folder: Path) -> None:
    path = write_table(
        folder,
        {"label": "x", "size_mm": "-1", "x_max": "99"},
        {"image": "no.png", "tirads": "7"},
        {"image": "frames/b.png", "image_id": "c", "patient_id": "", "y_min": "nan"},
    )
    assert len(faults_of(path)) == 3 + 3 + 2


def test_ragged_rows_are_faults_and_the_others_are_still_read(folder: Path) -> None:
    path = write_table(folder, {}, {"image_id": "b", "label": "9"})
    text = path.read_text().splitlines()
    path.write_text("\n".join([text[0], text[1] + ",1", text[2]]))
    ragged, label = faults_of(path)
    assert ragged == "TABLE, row 1: found 9 cells, expected 8, as the header has"
    assert label.startswith("TABLE, row 2: found label '9'")


def test_a_misspelt_optional_column_is_a_fault(folder: Path) -> None:
    (fault,) = faults_of(write_table(folder, {"tirad": "5"}))
    assert fault == "TABLE, header: found column 'tirad', expected 'tirads', or another name"


def test_an_unrelated_column_is_ignored_with_a_word(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_source("csv", write_table(folder, {"hospital": "A", "age": "50"})).nodules
    assert caplog.messages == [f"{folder / 'nodules.csv'}: columns ignored: hospital, age"]


def test_margin_given_twice(folder: Path) -> None:
    path = write_table(folder, {"margin": "smooth", "margin_feature": "halo"})
    assert "found margin and margin_feature, expected one of the two" in faults_of(path)[0]


def test_a_column_named_twice(folder: Path) -> None:
    path = write_table(folder, {"other": "1"})
    path.write_text(path.read_text().replace("other", "label"))
    assert "found column 'label' twice" in faults_of(path)[0]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "no header"),
        (b"\n\n", "no header"),
        (",".join(ROW).encode() + b"\n", "no rows"),
        (b"image,\xff\xfe\x00", "bytes that are not UTF-8 (at byte 6)"),
        (",".join(ROW).encode("utf-16"), "bytes that are not UTF-8 (at byte 0)"),
        (b'image,label\n"open,1\n', "broken CSV (unexpected end of data)"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "bytes that are not UTF-8 (at byte 0)"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "nodules.csv"
    path.write_bytes(content)
    assert f"TABLE: found {found}" in " ".join(faults_of(path))


def test_semicolons_are_told_by_the_columns_found(folder: Path) -> None:
    path = write_table(folder, {})
    path.write_text(path.read_text().replace(",", ";"))
    assert "found columns image;image_id" in faults_of(path)[0]


def test_no_file_or_a_folder(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "x.csv") == ["TABLE: found no such file, expected a CSV file"]
    assert faults_of(tmp_path) == ["TABLE: found a folder, expected a CSV file"]


def test_an_unknown_source_and_a_missing_path() -> None:
    with pytest.raises(DataError, match="found 'cvs', expected one of csv, busbra, ddti, phantom"):
        read_source("cvs", Path("x"))
    for name in SOURCES[:3]:
        with pytest.raises(DataError, match="found no path, expected a "):
            read_source(name, None)
