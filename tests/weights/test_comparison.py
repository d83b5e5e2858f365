"""Two sets of weights compared: by their arrays, and by what their networks answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thyrojax.weights import VARIANTS, Variant, Weights, change, compare, names
from thyrojax.weights.comparison import probe_images
from thyrojax.weights.types import Arrays

NewArrays = Callable[..., Arrays]


def weights_of(arrays: Arrays, variant: Variant = VARIANTS["keras"]) -> Weights:
    return Weights(arrays, variant, "test", (), {}, Path("test"), "", depth_multiplier=0.05)


@pytest.fixture(scope="module")
def first(new_arrays: NewArrays) -> Weights:
    return weights_of(new_arrays(classes=3))


def test_same_weights_are_identical(first: Weights, new_arrays: NewArrays) -> None:
    found = compare(first, weights_of(new_arrays(classes=3)))
    assert found.verdict == "identical"
    assert {leaf.state for leaf in found.leaves} == {"equal"}
    assert len(found.leaves) == 94 * 5 + 2
    assert found.probe == {"pool": 0.0, "logits": 0.0}


def test_differing_array_is_named_with_its_difference(first: Weights) -> None:
    bias = first.arrays["params/Mixed_5b/branch1x1/bn/bias"].copy()
    bias[3] += 0.5
    second = replace(first, arrays=first.arrays | {"params/Mixed_5b/branch1x1/bn/bias": bias})
    found = compare(first, second)
    assert found.verdict == "different"
    (leaf,) = [leaf for leaf in found.leaves if leaf.state != "equal"]
    assert (leaf.path, leaf.state) == ("params/Mixed_5b/branch1x1/bn/bias", "differs")
    assert leaf.largest == pytest.approx(0.5, rel=1e-6)
    assert found.probe["pool"] > 1e-4


def test_pooling_is_part_of_what_weights_are(first: Weights) -> None:
    found = compare(first, replace(first, variant=VARIANTS["torchvision"]))
    assert found.variants == {"pooling": ("valid", "padded")}
    assert found.verdict == "same arrays"
    assert found.probe["pool"] > 1e-3
    last = compare(first, replace(first, variant=VARIANTS["fid"]))
    assert last.variants == {"last_pool": ("average", "max")}
    assert last.probe["pool"] > 1e-3


def test_exact_changes_are_the_same_function(first: Weights, new_arrays: NewArrays) -> None:
    gluon = replace(
        first,
        arrays=change.fold_preprocessing(first.arrays, "x/127.5-1", "(x/255-mean)/std"),
        variant=replace(first.variant, preprocessing="(x/255-mean)/std"),
    )
    assert compare(first, gluon).verdict == "same function"
    grey = replace(first, arrays=change.fold_grey(first.arrays, "x/127.5-1"))
    found = compare(first, grey)
    assert found.verdict == "same function"
    assert [leaf.path for leaf in found.leaves if leaf.state == "shape"] == [names.FIRST_KERNEL]
    scaled = weights_of(new_arrays(scales=True))
    unscaled = replace(scaled, arrays=change.fold_scales(scaled.arrays))
    assert compare(scaled, unscaled).verdict == "same function"


def test_classifiers_that_differ_are_not_the_same_function(
    first: Weights, new_arrays: NewArrays
) -> None:
    other = weights_of(new_arrays(classes=5))
    trunk = replace(first, arrays=change.without_heads(first.arrays))
    aux = weights_of(new_arrays(classes=3, aux=True))
    changed = {names.AUX_BIAS: aux.arrays[names.AUX_BIAS] + 1}
    for a, b in ((first, other), (first, trunk), (aux, replace(aux, arrays=aux.arrays | changed))):
        assert compare(a, replace(b, arrays={**b.arrays, **_trunk(a)}), probe=False).verdict == (
            "same trunk"
        )
    assert compare(first, trunk).verdict == "same trunk"


def _trunk(weights: Weights) -> Arrays:
    return change.without_heads(weights.arrays)


def test_arrays_of_one_side_only_are_named(first: Weights) -> None:
    trunk = replace(first, arrays=change.without_heads(first.arrays))
    states = {leaf.path: leaf.state for leaf in compare(first, trunk, probe=False).leaves}
    assert states[names.HEAD_KERNEL] == "first only"
    states = {leaf.path: leaf.state for leaf in compare(trunk, first, probe=False).leaves}
    assert states[names.HEAD_BIAS] == "second only"


def test_probe_is_always_the_same_and_covers_the_grey_levels() -> None:
    images = probe_images(3)
    np.testing.assert_array_equal(images, probe_images(3))
    assert images.shape == (2, 139, 139, 3)
    assert images.min() == 0
    assert images.max() == 255
    assert probe_images(1, 75).shape == (2, 75, 75, 1)
