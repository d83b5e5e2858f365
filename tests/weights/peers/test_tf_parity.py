"""tf_slim's own graph against ours, through the files that TensorFlow itself saves of it.

The graph is filled with the real ImageNet base and a real head of 1001 classes. Same pooled
features and logits, in float32, to 1e-5 of the largest value; photographs get their known classes.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thyrojax.weights import classify, names, read
from thyrojax.weights.comparison import outputs, outputs_difference

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
FILES = ["slim.ckpt", "slim_v1.ckpt", "slim.pb"]
KNOWN = {"chelsea.png": 286, "coffee.png": 968, "rocket.jpg": 658}


@pytest.fixture(scope="module")
def peer(
    shared: Path, tf_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The folder with TensorFlow's files, the images, and its answers."""
    folder = tmp_path_factory.mktemp("tf")
    base = read(shared / "weights" / "keras" / "inceptionv3_v1.h5").arrays
    given = {}
    for i, unit in enumerate(names.UNITS):
        given[f"kernel_{i}"] = base[f"params/{unit.path}/conv/kernel"]
        given[f"beta_{i}"] = base[f"params/{unit.path}/bn/bias"]
        given[f"mean_{i}"] = base[f"batch_stats/{unit.path}/bn/mean"]
        given[f"variance_{i}"] = base[f"batch_stats/{unit.path}/bn/var"]
    with np.load(shared / "weights" / "slim" / "imagenet_head_1001.npz") as head:
        given |= {"head_kernel": head["kernel"], "head_bias": head["bias"]}
    np.savez(folder / "units.npz", **given)
    with np.load(shared / "golden" / "inception_v3_imagenet.npz") as golden:
        whole = golden["input_uint8"]
    noise = np.random.default_rng(0).integers(0, 256, (2, 203, 203, 3)).astype(np.uint8)
    images = {"whole": whole, "other": noise}
    np.savez(folder / "images.npz", **images)
    script = Path(__file__).with_name("tf_side.py")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    done = subprocess.run(
        [tf_python, script, folder], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "answers_tf.npz") as file:
        return folder, images, dict(file)


@pytest.mark.parametrize("file", FILES)
def test_tensorflows_files_are_the_same_network_here(peer: Any, file: str) -> None:
    folder, images, answers = peer
    weights = read(folder / file)
    assert weights.classes == 1001
    for size, batch in images.items():
        theirs = {name: answers[f"{size}/{name}"] for name in ("pool", "logits")}
        found = outputs_difference(theirs, outputs(weights, batch))
        print(f"{file} {size}: {found}")  # `pytest -rP` shows the figures
        assert found.keys() == theirs.keys()
        assert max(found.values()) <= TOLERANCE, (size, found)


def test_checkpoints_have_the_auxiliary_head_and_the_frozen_graph_what_it_needs(
    peer: Any,
) -> None:
    folder, _, _ = peer
    first, second = (read(folder / file) for file in ("slim.ckpt", "slim_v1.ckpt"))
    assert first.has_aux_head
    assert all(first.arrays[k].tobytes() == a.tobytes() for k, a in second.arrays.items())
    assert first.arrays.keys() == second.arrays.keys()
    frozen = read(folder / "slim.pb")
    assert all(first.arrays[k].tobytes() == a.tobytes() for k, a in frozen.arrays.items())
    assert not frozen.has_aux_head


def test_photographs_get_their_known_classes(peer: Any, shared: Path) -> None:
    folder, _, _ = peer
    photos = [shared / "golden" / "photos" / name for name in KNOWN]
    for file in ("slim.ckpt", "slim.pb"):
        answers = classify(read(folder / file), photos)
        assert [guesses[0].index for guesses in answers] == list(KNOWN.values())
        assert [guesses[0].name for guesses in answers] == ["Egyptian cat", "espresso", "missile"]
