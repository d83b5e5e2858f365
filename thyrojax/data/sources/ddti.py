"""The `ddti` source: the public DDTI set of thyroid nodules (Pedraza et al. 2015) as it circulates.

Layout: `N.xml` for case N and its images `N_i.jpg`. The XML gives one grade and one set of features
for the case, and for image i a `<mark>` whose `<svg>` is a JSON list of regions of points.

The label is a TI-RADS grade, no pathology: 2, 3 give 0 and 4a, 4b, 4c, 5 give 1
("TI-RADS-suspicious"). Each region is a nodule with its own box: an image often shows one nodule
twice, on a split screen. The points are SVG coordinates, whose whole numbers lie on the edges
between pixels.

The set is broken in many places. Every image file and every region is either a nodule or an
exclusion, with one of the reasons below. What the set is not known to hold (a grade or word outside
its own lists, an XML or image that cannot be read) is a fault.

The SVG of some marks is cut off after 2,500 characters. The regions before the cut are whole JSON
objects and are kept; the one that the cut runs through is left out, since the rest of its outline
is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from thyrojax.data.records import Exclusion, Nodule, SourceData
from thyrojax.data.sources.ddti_xml import Case, Region, read_case
from thyrojax.data.sources.listing import IMAGE_SUFFIXES
from thyrojax.data.sources.reading import NO_IMAGE_FILE, Frame, read_frame, require_folder
from thyrojax.errors import DataError, DataFaults, Fault

# Reasons for a whole image.
NO_XML = "no XML of its case"
NO_MARK = "no mark in its XML"
NO_REGION = "no region in its mark"
# Reasons for a region.
CUT_OFF = "SVG cut off within the region"
ARROW = "arrow or line"
REPEATED = "region repeated"
OFF_IMAGE = "region off the image"
TOO_SMALL = "region too small"
NO_GRADE = "no TI-RADS grade"
CONFLICTING = "identical images of unlike label"

SUSPICIOUS = ("4a", "4b", "4c", "5")
SMALLEST_SIDE = 10  # px; a nodule's outline is larger, a slip of the mouse is not


def read(path: Path) -> SourceData:
    """Reads the folder; every image is decoded once.

    `image_id` is the image's name, with "-k" for region k where its mark lists several. Cases that
    share a byte-identical image are one patient, named after the lowest of them.

    Raises:
      DataError: no such folder, neither XML nor images in it, or no nodule is left.
      DataFaults: all faults of the files together.
    """
    require_folder(path, "the DDTI folder with N.xml and N_i.jpg")
    files = sorted(
        (file for file in path.iterdir() if not file.name.startswith(".")),
        key=lambda file: _number_order(file.name),
    )
    faults: list[Fault] = []
    images = _by_name((file for file in files if file.suffix.lower() in IMAGE_SUFFIXES), faults)
    sheets = _by_name((file for file in files if file.suffix.lower() == ".xml"), faults)
    if not images or not sheets:
        found = f"{len(sheets)} XML files and {len(images)} images"
        raise DataError(f"{path}: found {found}, expected N.xml and N_i.jpg")

    cases = {name: read_case(file, faults) for name, file in sheets.items()}
    frames = {name: read_frame(file, str(file), "", faults) for name, file in images.items()}
    if faults:
        raise DataFaults(faults)

    patient_of = _join_cases({name: frame.digest for name, frame in frames.items() if frame})
    nodules: list[Nodule] = []
    exclusions: list[Exclusion] = []
    for name, file in images.items():
        case, frame = cases.get(_case_of(name)), frames[name]
        if case is None or frame is None:
            exclusions.append(Exclusion(name, NO_XML))
            continue
        used, left_out = _sort_regions(name, file, frame, case, patient_of[_case_of(name)])
        nodules += used
        exclusions += left_out
    exclusions += _without_image({name: case for name, case in cases.items() if case}, images)
    nodules, conflicting = _without_conflicts(
        nodules, {name: frame.digest for name, frame in frames.items() if frame}
    )
    if not nodules:
        raise DataError(f"{path}: found no region with a grade, expected the DDTI layout")
    return SourceData("ddti", tuple(nodules), (*exclusions, *conflicting), n_images=len(images))


def _number_order(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts "9_1" before "10_1"."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if part.isdecimal() else (0, part) for part in parts)


def _by_name(files: Iterable[Path], faults: list[Fault]) -> dict[str, Path]:
    names: dict[str, Path] = {}
    for file in files:
        if file.stem in names:
            found = f"the name of {names[file.stem].name} again"
            faults.append(Fault(str(file), "", found, "one file of each name"))
        names.setdefault(file.stem, file)
    return names


def _case_of(image_name: str) -> str:
    return image_name.rpartition("_")[0]


def _join_cases(digests: dict[str, str]) -> dict[str, str]:
    """The patient of each case: cases joined by identical images, over any number of steps."""
    patient_of = {_case_of(name): _case_of(name) for name in digests}
    first_with: dict[str, str] = {}
    for name, digest in digests.items():
        here = patient_of[_case_of(name)]
        there = patient_of[_case_of(first_with.setdefault(digest, name))]
        if here != there:
            kept, dropped = sorted((here, there), key=_number_order)
            patient_of = {
                case: kept if patient == dropped else patient
                for case, patient in patient_of.items()
            }
    return patient_of


def _sort_regions(
    name: str, file: Path, frame: Frame, case: Case, patient: str
) -> tuple[list[Nodule], list[Exclusion]]:
    """An image's regions as nodules, and those that are none with the reason."""
    mark = case.marks.get(name)
    if mark is None:
        return [], [Exclusion(name, NO_MARK)]
    count = len(mark.regions) + mark.cut_off
    if count == 0:
        return [], [Exclusion(name, NO_REGION)]
    nodules: list[Nodule] = []
    exclusions: list[Exclusion] = []
    for number, region in enumerate(mark.regions, start=1):
        reason = _reason_against(region, frame, earlier=mark.regions[: number - 1])
        if not reason and case.tirads is None:
            reason = NO_GRADE
        if reason:
            detail = f"region {number} of {count}, box {' '.join(map(str, region.box))}"
            exclusions.append(Exclusion(name, reason, detail))
            continue
        nodule = Nodule(
            image=file,
            image_id=f"{name}-{number}" if count > 1 else name,
            patient_id=patient,
            box=region.box,
            label=int(case.tirads in SUSPICIOUS),
            tirads=case.tirads,
            composition=case.composition,
            echogenicity=case.echogenicity,
            calcification=case.calcification,
            margin=case.margin,
        )
        nodules.append(nodule)
    if mark.cut_off:
        exclusions.append(Exclusion(name, CUT_OFF, f"region {count} of {count}"))
    return nodules, exclusions


def _reason_against(region: Region, frame: Frame, earlier: list[Region]) -> str:
    """Why a region is no usable outline; "" where it is one."""
    if len(region.points) < 3 or region.kind == "arrow":
        return ARROW
    if any(region.points == other.points for other in earlier):
        return REPEATED
    box = region.box
    if box.x_min < 0 or box.y_min < 0 or box.x_max > frame.width or box.y_max > frame.height:
        return OFF_IMAGE
    return TOO_SMALL if min(box.width, box.height) < SMALLEST_SIDE else ""


def _without_image(cases: dict[str, Case], images: dict[str, Path]) -> list[Exclusion]:
    """Marks whose image is not in the folder, and cases of which no image is."""
    with_image = {_case_of(name) for name in images}
    exclusions = []
    for number, case in cases.items():
        for name, mark in case.marks.items():
            if name not in images:
                regions = len(mark.regions) + mark.cut_off
                exclusions.append(Exclusion(name, NO_IMAGE_FILE, f"regions: {regions}"))
        if not case.marks and number not in with_image:
            exclusions.append(Exclusion(number, NO_IMAGE_FILE, f"{number}.xml names none"))
    return exclusions


def _without_conflicts(
    nodules: list[Nodule], digests: dict[str, str]
) -> tuple[list[Nodule], list[Exclusion]]:
    """Leaves out all nodules of images whose identical copies are graded to the other label."""
    labels: dict[str, set[int]] = {}
    by_id = {nodule.image_id: digests[_name_of(nodule)] for nodule in nodules}
    for nodule in nodules:
        labels.setdefault(by_id[nodule.image_id], set()).add(nodule.label)
    kept = [nodule for nodule in nodules if len(labels[by_id[nodule.image_id]]) == 1]
    left_out = [
        Exclusion(_name_of(nodule), CONFLICTING, f"{nodule.image_id}, TI-RADS {nodule.tirads}")
        for nodule in nodules
        if len(labels[by_id[nodule.image_id]]) > 1
    ]
    return kept, left_out


def _name_of(nodule: Nodule) -> str:
    assert isinstance(nodule.image, Path)
    return nodule.image.stem
