"""The smallest valid set of each source: two nodules, drawn."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

HEIGHT, WIDTH = 60, 80


def draw(file: Path, seed: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    frame = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    cv2.imwrite(str(file), frame)


def draw_mask(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[16:40, 8:40] = 255
    cv2.imwrite(str(file), mask)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


# Each gives what is to stand after `--from`.


def make_csv(folder: Path) -> list[str]:
    draw(folder / "frames" / "a.png", 1)
    draw(folder / "frames" / "b.jpg", 2)
    write(
        folder / "nodules.csv",
        "image,image_id,patient_id,x_min,y_min,x_max,y_max,label,size_mm\n"
        "frames/a.png,a,p1,10,20,30,40,benign,8\n"
        "frames/b.jpg,b,p2,5,5,25,35,malignant,9.5\n",
    )
    return [str(folder / "nodules.csv")]


def make_ddti(folder: Path) -> list[str]:
    for number, grade in ((1, "2"), (2, "4b")):
        draw(folder / f"{number}_1.jpg", number)
        points = [{"x": x, "y": y} for x, y in ((10, 10), (40, 12), (30, 45))]
        svg = json.dumps([{"points": points, "annotation": {}, "regionType": "freehand"}])
        write(
            folder / f"{number}.xml",
            f"<case><number>{number}</number><composition>solid</composition>"
            f"<tirads>{grade}</tirads><mark><image>1</image><svg>{svg}</svg></mark></case>",
        )
    return [str(folder)]


def make_busbra(folder: Path) -> list[str]:
    rows = ["ID,Case,Histology,Pathology,BIRADS"]
    for number, pathology in ((1, "benign"), (2, "malignant")):
        draw(folder / "Images" / f"bus_000{number}-l.png", number)
        draw_mask(folder / "Masks" / f"mask_000{number}-l.png")
        rows.append(f"bus_000{number}-l,{number},cyst,{pathology},4")
    write(folder / "bus_data.csv", "\n".join(rows) + "\n")
    return [str(folder)]


def make_tn3k(folder: Path) -> list[str]:
    for label, half in enumerate(("trainval", "test")):
        draw(folder / f"{half}-image" / "0000.jpg", label)
        draw_mask(folder / f"{half}-mask" / "0000.jpg")
        write(folder / f"label4{half}.csv", f"0000.jpg,{label}\n")
    return [str(folder)]


def voc_xml(name: str, label: str) -> str:
    return (
        f"<annotation><filename>{name}.jpg</filename><size><width>{WIDTH}</width><height>{HEIGHT}"
        f"</height><depth>3</depth></size><object><name>{label}</name><bndbox><xmin>11</xmin>"
        "<ymin>6</ymin><xmax>40</xmax><ymax>45</ymax></bndbox></object></annotation>"
    )


def make_voc(folder: Path, labels: tuple[str, str] = ("benign", "malignant")) -> list[str]:
    for number, label in enumerate(labels, start=1):
        draw(folder / "JPEGImages" / f"00000{number}.jpg", number)
        write(folder / "Annotations" / f"00000{number}.xml", voc_xml(f"00000{number}", label))
    return [str(folder)]


def make_tn5000(folder: Path) -> list[str]:
    write(folder / "ImageSets" / "Main" / "train.txt", "000001\n")
    write(folder / "ImageSets" / "Main" / "test.txt", "000002\n")
    return make_voc(folder, ("0", "1"))


def make_masks(folder: Path) -> list[str]:
    for number, name in enumerate(("a", "b")):
        draw(folder / "images" / f"{name}.png", number)
        draw_mask(folder / "masks" / f"{name}.png")
    write(folder / "labels.csv", "image,label,patient_id\na.png,benign,1\nb.png,malignant,2\n")
    return [str(folder)]


def make_coco(folder: Path) -> list[str]:
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    content["categories"] = [{"id": 0, "name": "benign"}, {"id": 1, "name": "malignant"}]
    for number in range(2):
        draw(folder / "images" / f"{number}.png", number)
        size = {"width": WIDTH, "height": HEIGHT}
        content["images"].append({"id": number, "file_name": f"{number}.png", **size})
        box = {"image_id": number, "category_id": number, "bbox": [10.5, 20, 30, 15]}
        content["annotations"].append({"id": number, **box})
    write(folder / "nodules.json", json.dumps(content))
    return [str(folder / "nodules.json")]


def make_labelme(folder: Path) -> list[str]:
    """The second image is inside its JSON file."""
    for number, label in enumerate(("benign", "malignant")):
        image = folder / f"{number}.png"
        draw(image, number)
        data = base64.b64encode(image.read_bytes()).decode() if number else None
        points = [[10, 20], [40.5, 35]]
        content = {
            "version": "5.4.1",
            "shapes": [{"label": label, "points": points, "shape_type": "rectangle"}],
            "imagePath": image.name,
            "imageData": data,
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
        }
        write(folder / f"{number}.json", json.dumps(content))
    (folder / "1.png").unlink()
    return [str(folder)]


def make_dicom(folder: Path) -> list[str]:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    rows = ["sop_instance_uid,x_min,y_min,x_max,y_max,label"]
    (folder / "export").mkdir()
    for number in (1, 2):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
        dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.{number}"
        dataset.PatientID, dataset.Modality = f"MRN-{number}", "US"
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = HEIGHT, WIDTH, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        frame = np.random.default_rng(number).integers(40, 200, (HEIGHT, WIDTH), dtype=np.uint8)
        dataset.PixelData = frame.tobytes()
        dataset["PixelData"].VR = "OB"
        dataset.save_as(folder / "export" / f"{number}.dcm", enforce_file_format=True)
        rows.append(f"{dataset.SOPInstanceUID},10,20,40,45,{number - 1}")
    write(folder / "boxes.csv", "\n".join(rows) + "\n")
    write(folder / "key.txt", "0123456789abcdef" * 4 + "\n")
    boxes, key = str(folder / "boxes.csv"), str(folder / "key.txt")
    return [str(folder / "export"), "--boxes", boxes, "--key-file", key, "--no-mask-overlay"]


SETS: dict[str, Callable[[Path], list[str]]] = {
    "csv": make_csv,
    "ddti": make_ddti,
    "busbra": make_busbra,
    "tn3k": make_tn3k,
    "tn5000": make_tn5000,
    "coco": make_coco,
    "voc": make_voc,
    "masks": make_masks,
    "labelme": make_labelme,
    "dicom": make_dicom,
}


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[[str], list[str]]:
    """Makes a source's set in `tmp_path / "set"`; gives what is to stand after `--from`."""

    def make(source: str) -> list[str]:
        if source == "dicom":
            pytest.importorskip("pydicom")
        (tmp_path / "set").mkdir()
        return SETS[source](tmp_path / "set")

    return make
