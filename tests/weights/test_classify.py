"""Names of classes, and what classifiers make of photographs."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from thyrojax.errors import DataError, WeightsError
from thyrojax.weights import classify, labels_for, read
from thyrojax.weights.labels import imagenet_labels
from thyrojax.weights.store import Weights
from thyrojax.weights.types import VARIANTS, Arrays

NewArrays = Callable[..., Arrays]


@pytest.fixture
def small(new_arrays: NewArrays) -> Callable[..., Weights]:
    """Random weights of 16 channels; keywords of the metadata are `metadata`'s."""

    def new(metadata: dict[str, object] | None = None, **options: object) -> Weights:
        return Weights(
            arrays=new_arrays(**options),
            variant=VARIANTS["gluon"],
            format="test",
            used=(),
            ignored={},
            path=Path("small.h5"),
            sha256="",
            depth_multiplier=0.05,
            metadata={"input_size": 75} if metadata is None else metadata,
        )

    return new


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (75, 75, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


# ---- names


def test_imagenet_names_are_those_of_another_list_in_its_order(shared: Path) -> None:
    theirs = (shared / "weights" / "imagenet_labels_1001.txt").read_text().splitlines()
    ours = labels_for(1001)
    assert len(theirs) == len(ours) == 1001
    assert ours[0] == "background"
    same = [
        name.lower() in [synonym.strip().lower() for synonym in synonyms.split(",")]
        for name, synonyms in zip(theirs[1:], ours[1:], strict=True)
    ]
    assert sum(same) >= 990


def test_names_are_where_ilsvrc_has_them() -> None:
    # As keras.applications' imagenet_class_index.json numbers them
    names = labels_for(1000)
    assert names[0] == "tench, Tinca tinca"
    assert names[285] == "Egyptian cat"
    assert names[657] == "missile"
    assert names[967] == "espresso"
    assert names[999] == "toilet tissue, toilet paper, bathroom tissue"
    assert [i for i, name in enumerate(names) if name == "crane"] == [134, 517]
    assert len(set(names)) == 999


def test_names_of_the_file_come_first_and_unknown_classes_are_numbered() -> None:
    assert labels_for(2, ["benign", "malignant"]) == ["benign", "malignant"]
    assert labels_for(2) == ["class 0", "class 1"]
    assert labels_for(1008)[1007] == "class 1007"
    assert labels_for(1000, list(reversed(imagenet_labels())))[0].startswith("toilet tissue")


@pytest.mark.parametrize("known", [["one"], "ab", [1, 2], {"a": 1}, ["a", None]])
def test_names_that_do_not_fit_are_an_error(known: object) -> None:
    with pytest.raises(WeightsError, match=r"labels: found .*, expected"):
        labels_for(2, known)


# ---- classifying


def test_likeliest_classes_come_first_and_batches_do_not_matter(
    small: Callable[..., Weights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), np.uint8)
        paths.append(tmp_path / f"{seed}.png")
        cv2.imwrite(str(paths[-1]), pixels)
    monkeypatch.setattr(sys.modules["thyrojax.weights.classify"], "BATCH", 2)
    weights = small({"input_size": 75, "labels": ["a", "b", "c"]}, classes=3)
    together = classify(weights, paths)
    for guesses in together:
        assert [guess.name for guess in guesses] == ["abc"[guess.index] for guess in guesses]
        assert sorted(guess.index for guess in guesses) == [0, 1, 2]
        probabilities = [guess.probability for guess in guesses]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1.0, abs=1e-6)
    others = classify(weights, paths[::-1], top=2)[::-1]
    for guesses, alone in zip(together, others, strict=True):
        assert [guess.index for guess in alone] == [guess.index for guess in guesses[:2]]
        assert alone[0].probability == pytest.approx(guesses[0].probability, abs=1e-5)
    assert classify(weights, []) == []


def test_weights_for_grey_images_see_the_grey_of_a_photograph(
    small: Callable[..., Weights], tmp_path: Path
) -> None:
    weights = small(classes=2, channels=1)
    colours = np.zeros((75, 75, 3), np.uint8)
    colours[..., 1] = 200  # green; OpenCV's luma is 0.587 of it
    grey = np.full((75, 75), round(200 * 0.587), np.uint8)
    for name, pixels in (("colours.png", colours), ("grey.png", grey)):
        cv2.imwrite(str(tmp_path / name), pixels)
    colour_answer, grey_answer = classify(
        weights, [tmp_path / "colours.png", tmp_path / "grey.png"]
    )
    assert colour_answer == grey_answer


def test_weights_without_a_classifier_are_told(small: Callable[..., Weights], image: Path) -> None:
    with pytest.raises(WeightsError, match=r"small\.h5: found no classifier on these features"):
        classify(small(), [image])


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"input_size": 74}, "found input_size 74, expected 75 to 4096 px"),
        ({"input_size": "299"}, "found input_size '299', expected"),
        ({"export": {"input_size": 10**9}}, "found input_size 1000000000, expected"),
        ({"input_size": 75, "labels": ["a"]}, r"small\.h5: labels: found 1 names, expected 2"),
    ],
)
def test_metadata_that_cannot_be_are_told(
    small: Callable[..., Weights], image: Path, metadata: dict[str, object], reason: str
) -> None:
    with pytest.raises(WeightsError, match=reason):
        classify(small(metadata, classes=2), [image])


def test_bad_images_and_counts_are_told(small: Callable[..., Weights], tmp_path: Path) -> None:
    weights = small(classes=2)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png: found a file that cannot be decoded"):
        classify(weights, [tmp_path / "text.png"])
    with pytest.raises(DataError, match=r"missing\.png: found No such file"):
        classify(weights, [tmp_path / "missing.png"])
    with pytest.raises(WeightsError, match="top: found 0"):
        classify(weights, [], top=0)


@pytest.mark.slow
def test_photographs_get_their_known_classes(shared: Path, tmp_path: Path) -> None:
    weights = read(shared / "weights" / "keras" / "inceptionv3_v1.h5")
    with np.load(shared / "weights" / "slim" / "imagenet_head_1001.npz") as head:
        fc = {f"params/fc/{name}": head[name] for name in ("kernel", "bias")}
    weights = dataclasses.replace(weights, arrays={**weights.arrays, **fc})
    photos = shared / "golden" / "photos"
    paths = [photos / name for name in ("chelsea.png", "coffee.png", "rocket.jpg")]
    with np.load(shared / "golden" / "inception_v3_imagenet.npz") as golden:
        logits = golden["slim_head_logits_1001"].astype(np.float64)
        for number, pixels in enumerate(golden["input_uint8"]):  # the network's very input
            paths.append(tmp_path / f"{number}.png")
            cv2.imwrite(str(paths[-1]), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    answers = classify(weights, paths)

    first = [guesses[0] for guesses in answers[:3]]
    assert [(guess.index, guess.name) for guess in first] == [
        (286, "Egyptian cat"),
        (968, "espresso"),
        (658, "missile"),
    ]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for guesses, probabilities in zip(answers[3:], expected, strict=True):
        assert [g.index for g in guesses] == np.argsort(-probabilities)[:5].tolist()
        for guess in guesses:
            assert guess.probability == pytest.approx(probabilities[guess.index], abs=1e-4)
