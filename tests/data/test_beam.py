"""The set that Apache Beam builds is the set that is built without it, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thyrojax.data.builder import build
from thyrojax.data.dataset import open_dataset
from thyrojax.data.records import SourceData
from thyrojax.errors import ConfigError

HERE = Path(__file__).parent


@pytest.mark.slow
def test_beam_writes_the_same_bytes(
    tmp_path: Path,
    image_files: Path,
    peer_python: Callable[[Path, str], Path],
) -> None:
    # One Python for both: Beam holds back pyarrow and others, whose versions show in the files.
    python = peer_python(HERE, "beam")
    options = ["direct_running_mode=multi_processing", "direct_num_workers=2"]
    command = [python, HERE / "beam_side.py", image_files, tmp_path, *options]
    paths = {"PYTHONPATH": str(HERE.parents[1])}
    subprocess.run(command, check=True, env=os.environ | paths, timeout=300)
    plain, beam = tmp_path / "plain", tmp_path / "beam"
    names = sorted(path.name for path in plain.iterdir())
    assert sum("array_record" in name for name in names) > 1
    assert sorted(path.name for path in beam.iterdir()) == names
    for name in names:
        assert (beam / name).read_bytes() == (plain / name).read_bytes(), name
    assert len(open_dataset(beam)) == len(list(image_files.iterdir()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beam", "plain"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_options": ["region=here"]}, "--beam-option: found no --beam-runner"),
        ({"beam_runner": "DirectRunner", "workers": 2}, "workers: found 2 and a Beam runner"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
    make_source: Callable[..., SourceData],
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(make_source(2), tmp_path / "set", False, **options)
    assert not list(tmp_path.iterdir())


def test_without_beam_one_line_says_how_to_get_it(
    tmp_path: Path, make_source: Callable[..., SourceData], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(
        ConfigError, match=r"found no apache_beam, .*pip install 'thyrojax\[beam\]'"
    ):
        build(make_source(2), tmp_path / "set", False, beam_runner="DirectRunner")
    assert not list(tmp_path.iterdir())
