"""Kappa and the interval of a paired difference, against R and published examples."""

from __future__ import annotations

import numpy as np
import pytest

from thyrojax.analysis.agreement import cohen_kappa, paired_difference_interval


@pytest.mark.parametrize(
    ("table", "kappa", "low", "high"),
    [
        ([[56, 14], [16, 34]], 0.4827586206897, 0.323514270798, 0.642002970581),
        ([[50, 20], [5, 45]], 0.5890410958904, 0.449993070053, 0.728089121728),
        ([[40, 32], [15, 33]], 0.2295081967213, 0.063249338421, 0.395767055022),
    ],
)
def test_kappa_is_that_of_vcd(
    table: list[list[int]], kappa: float, low: float, high: float
) -> None:
    """R package vcd 1.4.11, Kappa() and its confint(); psych 2.2.9, cohen.kappa(), rounds alike."""
    found = cohen_kappa(np.array(table))
    assert found.interval is not None
    assert (found.kappa, *found.interval) == pytest.approx((kappa, low, high), rel=1e-10)


def test_complete_agreement_has_no_plain_interval_and_one_call_no_kappa() -> None:
    assert cohen_kappa(np.array([[5, 0], [0, 7]]))[:2] == (1.0, None)
    one_call = cohen_kappa(np.array([[5, 0], [7, 0]]))
    assert one_call[:2] == (None, None)
    assert "same label" in one_call.note


def test_paired_difference_is_that_of_published_examples() -> None:
    # Newcombe 1998, Stat Med 17:2635, Table III, method 10: first less second, 0.0569 to 0.3404.
    assert paired_difference_interval(36, 12, 2, 0) == pytest.approx((-0.3404, -0.0569), abs=5e-5)
    # Fagerland, Lydersen and Laake 2014, Stat Med 33:2850, airway hyper-responsiveness before and
    # after a transplantation: before less after, -0.507 to -0.026.
    assert paired_difference_interval(1, 1, 7, 12) == pytest.approx((0.026, 0.507), abs=5e-4)


def test_paired_difference_changes_sign_with_the_order() -> None:
    forward, backward = (paired_difference_interval(9, *apart, 4) for apart in ((3, 8), (8, 3)))
    assert forward is not None
    assert backward is not None
    assert forward == pytest.approx((-backward[1], -backward[0]))


def test_paired_difference_without_cases_or_without_any_difference() -> None:
    assert paired_difference_interval(0, 0, 0, 0) is None
    same = paired_difference_interval(10, 0, 0, 0)
    assert same is not None
    # Both are 10 of 10, uncorrelated: Wilson's 0.2775 below one, on either side.
    assert same == pytest.approx((-0.27753, 0.27753), abs=1e-5)
