"""Boxes from segmentations (PS3.3, A.51) and structured reports (PS3.16, TID 1500)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pack_bits

from thyrojax.data.check import summarise
from thyrojax.data.records import Box, SourceData
from thyrojax.data.sources import dicom, dicom_objects, read_source
from thyrojax.data.sources.naming import OTHER_CLASS
from thyrojax.data.sources.reading import NO_IMAGE_FILE
from thyrojax.errors import DataError, DataFaults

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.33"


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def code(meaning: str) -> list[Dataset]:
    return [item(CodeValue="1", CodingSchemeDesignator="99X", CodeMeaning=meaning)]


def reference(scanner: Any, number: int, *frames: int) -> Dataset:
    made = item(
        ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.3.1",
        ReferencedSOPInstanceUID=f"{scanner.root}.{number}",
    )
    if frames:
        made.ReferencedFrameNumber = list(frames) if len(frames) > 1 else frames[0]
    return made


def segmentation(
    scanner: Any, masks: Sequence[tuple[np.ndarray, int, Dataset]], labels: Sequence[str]
) -> Dataset:
    """Frames of (mask, segment from 1, image reference), segments of these labels."""
    made = scanner.dataset(50, np.stack([mask.astype(np.uint8) for mask, _, _ in masks]))
    made.SOPClassUID, made.Modality = SEG, "SEG"
    made.SegmentationType = "BINARY"
    made.BitsAllocated = made.BitsStored = 1
    made.HighBit = 0
    made.PixelData = pack_bits(np.concatenate([mask.ravel() for mask, _, _ in masks]))
    made.SegmentSequence = [
        item(
            SegmentNumber=number,
            SegmentLabel=label,
            SegmentedPropertyTypeCodeSequence=code("Nodule"),
        )
        for number, label in enumerate(labels, start=1)
    ]
    made.PerFrameFunctionalGroupsSequence = [
        item(
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=segment)],
            DerivationImageSequence=[item(SourceImageSequence=[source])],
        )
        for _, segment, source in masks
    ]
    return made


def report(scanner: Any, *groups: list[Dataset]) -> Dataset:
    """A report with a measurement group for each list of content items."""
    made = scanner.dataset(60, scanner.draw(1))
    for name in ("Rows", "Columns", "PixelData", "SequenceOfUltrasoundRegions"):
        delattr(made, name)
    made.SOPClassUID, made.Modality, made.ValueType = SR, "SR", "CONTAINER"
    measured = [container("Measurement Group", group) for group in groups]
    made.ContentSequence = [
        item(RelationshipType="HAS CONCEPT MOD", ValueType="CODE", ConceptCodeSequence=code("en")),
        container("Imaging Measurements", measured),
    ]
    return made


def container(name: str, content: list[Dataset]) -> Dataset:
    return item(
        RelationshipType="CONTAINS",
        ValueType="CONTAINER",
        ConceptNameCodeSequence=code(name),
        ContentSequence=content,
    )


def finding(meaning: str) -> Dataset:
    return item(
        RelationshipType="CONTAINS",
        ValueType="CODE",
        ConceptNameCodeSequence=code("Finding"),
        ConceptCodeSequence=code(meaning),
    )


def graphic(kind: str, data: list[float], *images: Dataset) -> Dataset:
    return item(
        RelationshipType="CONTAINS",
        ValueType="SCOORD",
        ConceptNameCodeSequence=code("Image Region"),
        GraphicType=kind,
        GraphicData=data,
        ContentSequence=[
            item(RelationshipType="SELECTED FROM", ValueType="IMAGE", ReferencedSOPSequence=[image])
            for image in images
        ],
    )


def mask_of(scanner: Any, box: Box) -> np.ndarray:
    mask = np.zeros(scanner.shape, bool)
    mask[box.y_min : box.y_max, box.x_min : box.x_max] = True
    return mask


@pytest.fixture
def cine(scanner: Any) -> Any:
    """A cine of four frames, number 1, and a still, number 2."""
    scanner.write(scanner.dataset(1, np.stack([scanner.draw(seed) for seed in range(4)])))
    scanner.write(scanner.dataset(2, scanner.draw(9)))
    return scanner


def read(scanner: Any) -> SourceData:
    data = read_source("dicom", scanner.folder, key_file=scanner.key)
    summarise(data)
    return data


def found(data: SourceData) -> set[tuple[str, Box, int]]:
    """(frame or "", box, label) of each nodule."""
    return {
        (nodule.image_id.partition("-")[2], nodule.box, nodule.label) for nodule in data.nodules
    }


def test_masks_of_a_segmentation_give_their_bounding_boxes(cine: Any) -> None:
    left, right = Box(30, 40, 60, 80), Box(90, 50, 131, 97)
    ring = mask_of(cine, left)
    ring[45:75, 35:55] = False
    masks = [
        (ring, 1, reference(cine, 1, 3)),
        (mask_of(cine, right), 2, reference(cine, 1, 3)),
        (mask_of(cine, right), 2, reference(cine, 2)),
    ]
    cine.write(segmentation(cine, masks, ["Benign", "malignant"]))
    assert found(read(cine)) == {("f3-1", left, 0), ("f3-2", right, 1), ("", right, 1)}


def test_a_segments_class_may_be_its_property_type(cine: Any) -> None:
    made = segmentation(cine, [(mask_of(cine, Box(30, 40, 60, 80)), 1, reference(cine, 2))], ["A"])
    made.SegmentSequence[0].SegmentedPropertyTypeCodeSequence = code("Malignant")
    cine.write(made)
    assert found(read(cine)) == {("", Box(30, 40, 60, 80), 1)}


def test_segments_without_class_area_or_image_are_left_out(cine: Any) -> None:
    box = Box(30, 40, 60, 80)
    masks = [
        (mask_of(cine, box), 1, reference(cine, 2)),
        (mask_of(cine, box), 2, reference(cine, 1, 1)),
        (mask_of(cine, Box(0, 0, 0, 0)), 1, reference(cine, 1, 2)),
        (mask_of(cine, box), 1, reference(cine, 33)),
    ]
    cine.write(segmentation(cine, masks, ["benign", "thyroid of Jane"]))
    data = read(cine)
    assert found(data) == {("", box, 0)}
    assert sorted(entry.reason for entry in data.exclusions) == sorted(
        [OTHER_CLASS, dicom_objects.NO_AREA, NO_IMAGE_FILE, dicom.OTHER_FRAMES]
    )


def test_a_fractional_segmentation_is_left_out(cine: Any) -> None:
    box = Box(30, 40, 60, 80)
    cine.write(
        report(cine, [finding("benign"), graphic("POLYLINE", [1, 2, 9, 9], reference(cine, 2))])
    )
    made = segmentation(cine, [(mask_of(cine, box), 1, reference(cine, 1, 1))], ["benign"])
    made.SegmentationType = "FRACTIONAL"
    cine.write(made)
    reasons = [entry.reason for entry in read_reasons(cine)]
    assert dicom_objects.NOT_BINARY in reasons


def read_reasons(scanner: Any) -> Any:
    """The exclusions, with a usable box elsewhere."""
    still = scanner.dataset(3, scanner.draw(3))
    scanner.write(still)
    made = report(
        scanner,
        [finding("benign"), graphic("POLYLINE", [30, 40, 60, 80, 30, 80], reference(scanner, 3))],
    )
    made.SOPInstanceUID = f"{scanner.root}.61"
    scanner.write(made)
    return read(scanner).exclusions


@pytest.mark.parametrize(
    ("kind", "data", "box"),
    [
        (
            "POLYLINE",
            [30.0, 40.0, 60.0, 40.0, 60.0, 80.0, 30.0, 80.0, 30.0, 40.0],
            (30, 40, 60, 80),
        ),
        ("POLYLINE", [30.2, 40.9, 59.1, 60.0, 40.0, 79.5], (30, 40, 60, 80)),
        ("MULTIPOINT", [30.0, 80.0, 60.0, 40.0], (30, 40, 60, 80)),
        ("CIRCLE", [60.0, 70.0, 63.0, 74.0], (55, 65, 65, 75)),
        ("ELLIPSE", [40.0, 60.0, 80.0, 60.0, 60.0, 50.0, 60.0, 70.0], (40, 50, 80, 70)),
        # Turned by the angle of 3-4-5: half axes 20 and 10, so 20.0 x 0.8 and 10 x 0.6, squared.
        ("ELLIPSE", [44.0, 48.0, 76.0, 72.0, 66.0, 52.0, 54.0, 68.0], (42, 45, 78, 75)),
    ],
)
def test_regions_of_a_report_give_their_bounding_boxes(
    cine: Any, kind: str, data: list[float], box: tuple[int, ...]
) -> None:
    region = graphic(kind, data, reference(cine, 1, 2))
    cine.write(report(cine, [finding("Malignant"), region]))
    assert found(read(cine)) == {("f2", Box(*box), 1)}


def test_each_group_of_a_report_has_its_own_class(cine: Any) -> None:
    first, second = [30.0, 40.0, 60.0, 80.0], [90.0, 50.0, 120.0, 90.0]
    cine.write(
        report(
            cine,
            [finding("Nodule"), finding("benign"), graphic("POLYLINE", first, reference(cine, 2))],
            [finding("malignant"), graphic("POLYLINE", second, reference(cine, 1, 1, 4))],
        )
    )
    assert found(read(cine)) == {
        ("", Box(30, 40, 60, 80), 0),
        ("f1", Box(90, 50, 120, 90), 1),
        ("f4", Box(90, 50, 120, 90), 1),
    }


@pytest.mark.parametrize(
    ("words", "data", "reason"),
    [
        (["probably benign"], [30.0, 40.0, 60.0, 80.0], OTHER_CLASS),
        (["benign", "malignant"], [30.0, 40.0, 60.0, 80.0], OTHER_CLASS),
        ([], [30.0, 40.0, 60.0, 80.0], OTHER_CLASS),
        (["benign"], [30.0, 40.0, 60.0, 40.0], dicom_objects.NO_AREA),
        (["benign"], [30.0, 40.0, 60.0], dicom_objects.NO_AREA),
    ],
)
def test_regions_of_no_class_or_area_are_left_out(
    cine: Any, words: list[str], data: list[float], reason: str
) -> None:
    cine.write(report(cine, [*map(finding, words), graphic("POLYLINE", data, reference(cine, 2))]))
    assert reason in [entry.reason for entry in read_reasons(cine)]


def test_calipers_below_a_measurement_are_no_boxes(cine: Any) -> None:
    caliper = graphic("POLYLINE", [30.0, 40.0, 60.0, 80.0], reference(cine, 2))
    length = item(ValueType="NUM", RelationshipType="CONTAINS", ContentSequence=[caliper])
    cine.write(report(cine, [finding("benign"), length]))
    with pytest.raises(DataError, match=r"found no box in a segmentation \(SEG\)"):
        read(cine)


def test_with_a_table_of_boxes_objects_are_not_read(cine: Any) -> None:
    cine.write(report(cine, [finding("benign"), graphic("POINT", [3.0, 4.0])]))
    cine.table(cine.boxes, f"{cine.root}.2,,40,50,80,90,malignant")
    data = read_source("dicom", cine.folder, **cine.options())
    assert found(data) == {("", Box(40, 50, 80, 90), 1)}
    assert "1 segmentations and reports were not read, since a table gives the boxes." in data.notes


def faults_of(scanner: Any) -> list[str]:
    with pytest.raises(DataFaults) as caught:
        read_source("dicom", scanner.folder, key_file=scanner.key)
    return [str(fault).replace(f"{scanner.folder}/", "") for fault in caught.value.faults]


def test_a_segmentation_that_does_not_fit_is_a_fault(cine: Any) -> None:
    box = Box(30, 40, 60, 80)
    small = np.ones((10, 12), bool)
    masks = [(small, 1, reference(cine, 2)), (small, 7, reference(cine, 2))]
    made = segmentation(cine, masks, ["benign"])
    made.PerFrameFunctionalGroupsSequence[1].SegmentIdentificationSequence = []
    path = cine.write(made).name
    assert faults_of(cine) == [
        f"{path}, frame 2: found no segment, expected a segment and the image that it is of"
    ]
    cine.write(segmentation(cine, masks[:1], ["benign"]))
    assert faults_of(cine) == [
        f"{path}, frame 1: found a mask of 12x10, expected 160x120, as its image"
    ]
    made = segmentation(cine, [(mask_of(cine, box), 1, reference(cine, 2))], ["benign"])
    made.NumberOfFrames = 1000000
    cine.write(made)
    assert faults_of(cine) == [
        f"{path}: found 1 functional groups, expected one for each of 1000000 frames"
    ]
    made.NumberOfFrames = 1
    made.PixelData = b"\1" * 20
    cine.write(made)
    assert faults_of(cine) == [
        f"{path}: found 20 bytes of pixel data, expected at least 2400 for 1 frames of 160x120"
    ]


def test_a_region_selected_from_no_image_is_a_fault(cine: Any) -> None:
    path = cine.write(report(cine, [finding("benign"), graphic("POINT", [3.0, 4.0])])).name
    assert faults_of(cine) == [
        f"{path}, region 1: found no image, expected the image that the region is selected from"
    ]
