"""The loss of a batch, against numbers by hand and from torch 2.13 and torchvision 0.28."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thyrojax.config import Config
from thyrojax.errors import ConfigError
from thyrojax.train.loss import batch_loss, cross_entropy

ONES = np.ones(2, np.float32)
LOGITS = jnp.asarray([[0.3, -1.2], [1.7, 2.2], [-0.4, 3.1], [0.0, 0.9]])
LABELS = jnp.asarray([1, 0, 1, 1])


def test_cross_entropy_by_hand() -> None:
    logits = jnp.asarray([[0.0, np.log(3.0)], [0.0, 0.0]])  # p(malignant) = 3/4, 1/2
    labels = jnp.asarray([1, 0])
    plain = (-np.log(0.75) - np.log(0.5)) / 2
    assert cross_entropy(logits, labels, ONES, 0.0) == pytest.approx(plain, rel=1e-6)
    weights = np.asarray([0.5, 2.0], np.float32)
    weighted = (-2.0 * np.log(0.75) - 0.5 * np.log(0.5)) / 2
    assert cross_entropy(logits, labels, weights, 0.0) == pytest.approx(weighted, rel=1e-6)
    # Smoothing 0.2 gives targets 0.9 and 0.1.
    smooth = (-(0.9 * np.log(0.75) + 0.1 * np.log(0.25)) - np.log(0.5)) / 2
    assert cross_entropy(logits, labels, ONES, 0.2) == pytest.approx(smooth, rel=1e-6)


def test_smoothed_and_mixed_targets_cost_what_torch_says() -> None:
    # F.cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    smoothed = cross_entropy(LOGITS, LABELS, ONES, 0.1)
    assert smoothed == pytest.approx(0.791598638791892, rel=1e-6)
    # F.cross_entropy(LOGITS, [[.3, .7], [1, 0], [0, 1], [.5, .5]])
    mixed = cross_entropy(LOGITS, jnp.asarray([0.7, 0.0, 1.0, 0.5]), ONES, 0.0)
    assert mixed == pytest.approx(0.7615986387918918, rel=1e-6)


@pytest.mark.parametrize(
    ("alpha", "gamma", "expected"),
    [
        (None, 2.0, 0.38580323732666727),
        (0.25, 2.0, 0.14362725943909307),
        (0.75, 0.5, 0.3718301175090636),
    ],
)
def test_focal_loss_is_torchvisions_with_class_weights_as_alpha(
    alpha: float | None, gamma: float, expected: float
) -> None:
    # torchvision.ops.sigmoid_focal_loss of the logits' difference, averaged: a softmax of two
    # classes is a sigmoid of one.
    weights = ONES if alpha is None else np.asarray([1.0 - alpha, alpha], np.float32)
    found = cross_entropy(LOGITS, LABELS, weights, 0.0, gamma)
    assert found == pytest.approx(expected, rel=1e-6)


def test_focal_loss_of_smoothed_and_mixed_targets_by_hand() -> None:
    # p(malignant) = 3/4. Smoothing 0.2 of a label gives 0.9 and 0.1; the weight is the label's.
    logits, weights = jnp.asarray([[0.0, np.log(3.0)]]), np.asarray([0.5, 2.0], np.float32)
    smooth = -2.0 * (0.9 * 0.25**2 * np.log(0.75) + 0.1 * 0.75**2 * np.log(0.25))
    assert cross_entropy(logits, jnp.asarray([1]), weights, 0.2, 2.0) == pytest.approx(
        smooth, rel=1e-6
    )
    # Of a row that is 0.6 malignant, the weight is 0.4 * 0.5 + 0.6 * 2 = 1.4.
    mixed = -1.4 * (0.6 * 0.25**2 * np.log(0.75) + 0.4 * 0.75**2 * np.log(0.25))
    assert cross_entropy(logits, jnp.asarray([0.6]), weights, 0.0, 2.0) == pytest.approx(
        mixed, rel=1e-6
    )


def test_focal_loss_nearing_gamma_zero_is_cross_entropy() -> None:
    plain, nearly = (cross_entropy(LOGITS, LABELS, ONES, 0.1, gamma) for gamma in (0.0, 1e-6))
    assert nearly == pytest.approx(float(plain), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_gradient_is_finite_for_certain_predictions(gamma: float) -> None:
    logits = jnp.asarray([[0.0, 200.0], [200.0, 0.0]])  # certainly right, certainly wrong
    gradient = jax.grad(lambda x: cross_entropy(x, jnp.asarray([1, 1]), ONES, 0.1, gamma))(logits)
    assert np.isfinite(gradient).all()


def test_auxiliary_loss_counts_by_its_weight(small_config: Config) -> None:
    ends, targets = {"logits": LOGITS, "aux_logits": -LOGITS}, LABELS
    main = float(cross_entropy(LOGITS, targets, ONES, 0.0))
    auxiliary = float(cross_entropy(-LOGITS, targets, ONES, 0.0))
    assert replace(small_config, aux_head=True).aux_weight == 0.4
    with_head = batch_loss(ends, targets, ONES, replace(small_config, aux_head=True))
    assert with_head == pytest.approx(main + 0.4 * auxiliary, rel=1e-6)
    assert batch_loss(ends, targets, ONES, small_config) == pytest.approx(main, rel=1e-6)


def test_negative_gamma_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"focal_gamma: found -1\.0, expected a number >= 0"):
        Config(focal_gamma=-1.0)
