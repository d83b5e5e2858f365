"""The built-in phantom as a source: simulated patients whose frames are rendered when asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from thyrojax.data.phantom_case import MALIGNANT_FRACTION, Case, draw_case
from thyrojax.data.phantom_scene import lay_out
from thyrojax.data.records import Nodule, SourceData
from thyrojax.errors import DataError
from thyrojax.shapes import UInt8

N_PATIENTS = 300  # about 380 frames, one nodule each


def read(
    path: Path | None = None,
    *,
    n_patients: int = N_PATIENTS,
    seed: int = 0,
    malignant_fraction: float = MALIGNANT_FRACTION,
) -> SourceData:
    """Simulated patients P0001, P0002, ... with one to three frames each, one nodule a frame.

    A patient depends on the seed and its number alone: a larger set begins with the smaller one.
    Boxes are exact; frames are drawn by the records' `image` functions, which can be pickled.
    The best AUC that any reader can expect is `thyrojax.data.phantom_case.bayes_auc()`.

    Args:
      path: must be None; the phantom needs no files.
      n_patients: how many, at least one.
      seed: whole number >= 0.
      malignant_fraction: probability that a patient's nodule is malignant; the paper's by default.

    Raises:
      DataError: a path, or a number out of its range.
    """
    if path is not None:
        raise DataError(f"phantom: found path {path}, expected none: the phantom is built in")
    if n_patients < 1:
        raise DataError(f"phantom n_patients: found {n_patients}, expected a whole number >= 1")
    nodules = tuple(
        _record(draw_case(seed, patient, malignant_fraction), view)
        for patient in range(1, n_patients + 1)
        for view in range(draw_case(seed, patient, malignant_fraction).n_views)
    )
    return SourceData("phantom", nodules, (), len(nodules))


def _record(case: Case, view: int) -> Nodule:
    scene = lay_out(case, view)
    patient_id = f"P{case.patient:04d}"
    return Nodule(
        image=partial(_frame, case, view),
        image_id=f"{patient_id}-{view + 1}",
        patient_id=patient_id,
        box=scene.box,
        label=case.label,
        size_mm=case.size_mm,
        tirads=case.tirads,
        composition=case.composition,
        echogenicity=case.echogenicity,
        calcification=case.calcification,
        margin=case.margin,
        shape=case.shape,
        pixel_spacing_mm=scene.spacing,
        reader_label=case.reader_label,
    )


def _frame(case: Case, view: int) -> UInt8[np.ndarray, "height width"]:
    # OpenCV is imported with the renderer's first frame, not with the records.
    from thyrojax.data.phantom import render

    return render(lay_out(case, view))
