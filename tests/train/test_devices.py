"""The same run on 8, then 1, then 4 devices: the same batches, and the same result to rounding."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import pytest

from thyrojax.config import Config
from thyrojax.train import checkpoint, comparison, loop
from thyrojax.train.mapping import Mapping, make_mapping
from thyrojax.trained_run import restore_run

pytestmark = pytest.mark.usefixtures("half_network")


@pytest.mark.slow
def test_another_number_of_devices_goes_on_with_the_same_batches(
    small_config: Config, phantom_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Adam would turn a gradient's rounding into steps of full size, and batch statistics of a few
    # nearly equal activations enlarge it.
    config = replace(
        small_config, optimizer="sgd", lr=1e-2, freeze_bn=True, eval_every=0.7, log_every=1
    )
    given: list[str] = []

    def mapping_of(count: int, *arguments: Any, **options: Any) -> Mapping:
        mapping = make_mapping(*arguments, **options, devices=jax.devices()[:count])

        def train(state: Any, batch: dict[str, Any]) -> Any:
            given.append(hashlib.sha256(batch["image"].tobytes()).hexdigest())
            return mapping.train(state, batch)

        return mapping._replace(train=train)

    def trained(run: Path, count: int) -> list[str]:
        said: list[str] = []
        monkeypatch.setattr(loop, "make_mapping", partial(mapping_of, count))
        loop.train(config, phantom_set, run, quiet=True, say=said.append)
        return said

    trained(tmp_path / "whole", 8)
    whole, real_save = given.copy(), checkpoint.save
    given.clear()

    def save_and_stop(*arguments: Any) -> None:
        real_save(*arguments)
        raise KeyboardInterrupt

    run = tmp_path / "run"
    for count in (8, 1):
        monkeypatch.setattr(checkpoint, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            trained(run, count)
    monkeypatch.setattr(checkpoint, "save", real_save)
    assert f"resuming {run} from step 4" in trained(run, 4)
    assert len(whole) == 6
    assert given == whole

    metrics = comparison.compare_metrics(tmp_path / "whole", run)
    states = comparison.compare_states(
        *(restore_run(folder, "latest")[1].state for folder in (tmp_path / "whole", run))
    )
    assert comparison.verdict(metrics, states) == "equal to rounding", metrics
    assert max(metrics.largest.values()) < 1e-5
    assert 0.0 < states.largest < 1e-6
