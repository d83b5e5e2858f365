"""Keras 3 on its JAX backend against ours: files that we write, and files that Keras saves.

Same pooled features and logits, in float32, to 1e-5 of the largest value.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thyrojax.weights import VARIANTS, Variant, Weights, read, write
from thyrojax.weights.comparison import outputs, outputs_difference
from thyrojax.weights.types import Arrays

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
NARROW = 0.05
OTHER_SIZE = 139
SAVED = {".keras": "keras", ".h5": "keras-h5", ".weights.h5": "keras-weights"}
UNUSUAL = Variant("padded", "max", 2e-3)

# Files that we write: name, file, images, whether with a head, whether a whole model.
REAL = [
    ("real legacy", "real.h5", "whole", True, False),
    ("real weights", "real.weights.h5", "whole", True, False),
    ("real model", "real.keras", "whole", True, True),
    ("real trunk", "trunk.h5", "other", False, False),
    ("real model elsewhere", "real.keras", "other", True, True),
]


def weights_of(arrays: Arrays, variant: Variant, depth_multiplier: float = 1.0) -> Weights:
    return Weights(arrays, variant, "none", (), {}, Path("nowhere"), "", depth_multiplier)


@pytest.fixture(scope="module")
def images(shared: Path) -> dict[str, np.ndarray]:
    """Photographs and noise at 299 px, and noise at another size."""
    with np.load(shared / "golden" / "inception_v3_imagenet.npz") as golden:
        whole = golden["input_uint8"]
    rng = np.random.default_rng(0)
    other = rng.integers(0, 256, (2, OTHER_SIZE, OTHER_SIZE, 3)).astype(np.uint8)
    return {"whole": whole, "other": other}


@pytest.fixture(scope="module")
def real(shared: Path) -> Weights:
    base = read(shared / "weights" / "keras" / "inceptionv3_v1.h5")
    with np.load(shared / "weights" / "slim" / "imagenet_head_1001.npz") as head:
        fc = {f"params/fc/{name}": head[name] for name in ("kernel", "bias")}
    return replace(base, arrays=base.arrays | fc)


@pytest.fixture(scope="module")
def narrow(new_arrays: Callable[..., Arrays]) -> Weights:
    """Everything that only a whole model can hold."""
    return weights_of(new_arrays(classes=7, scales=True), UNUSUAL, NARROW)


@pytest.fixture(scope="module")
def peer(
    images: dict[str, np.ndarray],
    real: Weights,
    narrow: Weights,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, np.ndarray]]:
    """The folder of all files, and Keras' answers."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("no keras here")
    folder = tmp_path_factory.mktemp("keras")
    np.savez(folder / "images.npz", whole=images["whole"], other=images["other"])
    trunk = {name: array for name, array in real.arrays.items() if "/fc/" not in name}
    jobs: list[dict[str, Any]] = [{"name": "narrow", "file": "narrow.keras", "images": "other"}]
    write(narrow, folder / "narrow.keras")
    for name, file, size, has_head, is_model in REAL:
        weights = real if has_head else replace(real, arrays=trunk)
        if not (folder / file).exists():
            write(weights, folder / file)
        classes = {} if is_model else {"classes": weights.classes}
        jobs.append({"name": name, "file": file, "images": size, **classes})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("keras_side.py")
    # Of what the tests set for our JAX, its own gets the cache alone.
    strict = ("JAX_NUM_CPU_DEVICES", "JAX_NUMPY_RANK_PROMOTION")
    clean = {key: value for key, value in os.environ.items() if key not in strict}
    done = subprocess.run(
        [sys.executable, script, folder],
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "answers_keras.npz") as file:
        return folder, dict(file)


def check(weights: Weights, images: np.ndarray, answers: dict[str, np.ndarray], name: str) -> None:
    theirs = {
        output: answers[f"{name}/{output}"]
        for output in ("pool", "logits")
        if f"{name}/{output}" in answers
    }
    found = outputs_difference(theirs, outputs(weights, images))
    print(f"{name}: {found}")  # `pytest -rP` shows the figures
    assert found.keys() == theirs.keys()
    assert max(found.values()) <= TOLERANCE, found


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, _, size, *_ in REAL])
def test_files_of_ours_are_the_same_network_in_keras(
    peer: Any, images: dict[str, np.ndarray], real: Weights, name: str, size: str
) -> None:
    check(real, images[size], peer[1], name)


def test_photographs_have_their_classes_in_keras(peer: Any) -> None:
    """Egyptian cat, espresso, missile, as in `golden`."""
    assert peer[1]["real weights/logits"][:3].argmax(axis=1).tolist() == [286, 968, 658]


def test_scales_padding_last_pool_and_epsilon_are_kept_in_a_model(
    peer: Any, images: dict[str, np.ndarray], narrow: Weights
) -> None:
    check(narrow, images["other"], peer[1], "narrow")
    plain = replace(narrow, variant=VARIANTS["keras"])
    theirs = {"pool": peer[1]["narrow/pool"]}
    assert outputs_difference(theirs, outputs(plain, images["other"]))["pool"] > 0.01


@pytest.mark.parametrize("ending", SAVED)
def test_networks_that_keras_saves_are_the_same_here(
    peer: Any, images: dict[str, np.ndarray], ending: str
) -> None:
    weights = read(peer[0] / f"random{ending}")
    assert weights.format == SAVED[ending]
    assert weights.classes == 7
    kinds = {"no parameters"}
    if ending == ".keras":
        kinds |= {
            "date and version",
            "description of the model: only its layers' names and options were looked at",
        }
    assert set(weights.ignored.values()) == kinds
    check(weights, images["other"], peer[1], "random")


@pytest.mark.parametrize("name", ["narrow", "nested", "foreign"])
@pytest.mark.parametrize("ending", SAVED)
def test_our_network_saved_again_by_keras_has_every_bit(
    peer: Any, narrow: Weights, ending: str, name: str
) -> None:
    """`nested` has a dense layer of two classes and an optimizer, `foreign` more layers on top."""
    weights = read(peer[0] / f"{name}{ending}", depth_multiplier=NARROW)
    assert weights.classes == {"narrow": 7, "nested": 2, "foreign": 0}[name]
    if ending != ".weights.h5":  # which does not say what the model computes
        assert weights.variant == UNUSUAL
    for key, array in narrow.arrays.items():
        if "/fc/" not in key or name == "narrow":
            np.testing.assert_array_equal(weights.arrays[key], array)
    reasons = set(weights.ignored.values())
    assert ("optimizer slot" in reasons) == (name != "narrow")
    assert ("foreign head: dense layer" in reasons) == (name == "foreign")
    assert ("foreign head: layer after the trunk" in reasons) == (name == "foreign")
