"""From finished units to the study's tables, page and about.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thyrojax.config import Config
from thyrojax.data.dataset import open_dataset
from thyrojax.study.page import Finished, publish, tabulate
from thyrojax.study.plan import Arm, Study, Unit, conditions_of
from thyrojax.study.results import FEWEST
from thyrojax.study.run import read_unit
from thyrojax.study.scores import read_outcomes


def finish(
    study: Study,
    arms: Sequence[Arm],
    units: Sequence[Unit],
    reference: str,
    sets: Mapping[str, Path],
    workdir: Path,
    command: str,
    left_out: Sequence[str] = (),
) -> Path:
    """Tabulates and writes everything; all units have to be finished.

    Args:
      command: that was given.
      left_out: a line for each arm that could not be run, for the page.

    Returns:
      The path of the page.
    """
    outcomes = read_outcomes(conditions_of(arms), study.combined, units, workdir)
    tables = tabulate(study, reference, outcomes)
    names = {table.name for table in tables}
    compared_with = [c.arm.name for c in conditions_of(arms) if c.name == reference]
    lines = [
        *left_out,
        *(
            f"by {column}: found fewer than two categories with {FEWEST} nodules of each class"
            for column in study.subgroups
            if f"by_{column}" not in names and compared_with
        ),
    ]
    told = [read_unit(unit, workdir) for unit in units]
    config = next((u.config for u in units if u.arm.name in compared_with), units[0].config)
    about = {
        **_about(study, config, units, told, open_dataset(sets[""]).info),
        "command": command,
        "left_out": "; ".join(lines) or "nothing",
        "conditions": _conditions(study, arms, units),
    }
    done = Finished(
        study, reference, tuple(outcomes), tables, about, workdir, sets[""], tuple(units)
    )
    return publish(done)


def _conditions(
    study: Study, arms: Sequence[Arm], units: Sequence[Unit]
) -> dict[str, dict[str, Any]]:
    """What network each condition is of (a mean: its first one), and what its data are split by."""
    configs = {unit.arm.name: unit.config for unit in units}
    told = {
        condition.name: {
            "input_size": configs[condition.arm.name].input_size,
            "method": _METHODS[condition.arm.method],
            "split_by": configs[condition.arm.name].split_by,
        }
        for condition in conditions_of(arms)
    }
    for one in study.combined:
        if one.conditions[0] in told:
            told[one.name] = told[one.conditions[0]]
    return told


_METHODS = {"train": "fine-tuned", "frozen": "linear probe"}


def _about(
    study: Study,
    config: Config,
    units: Sequence[Unit],
    told: Sequence[Mapping[str, Any]],
    info: Mapping[str, Any],
) -> dict[str, Any]:
    probes = all(unit.arm.method == "frozen" for unit in units)
    return {
        "study": study.name,
        "title": study.title,
        "question": study.question,
        "source": info["source"],
        "data": (
            f"{info['n_nodules']:,} {info['subject']}: {info['label_names'][0]} against "
            f"{info['label_names'][1]}"
        ),
        "method": _METHODS["frozen" if probes else "train"],
        "input_size": config.input_size,
        "epochs": config.epochs,
        "folds": config.folds,
        "seeds": len({unit.config.seed for unit in units}),
        "runs": len(units),
        "hours": round(sum(one["seconds"] for one in told) / 3600.0, 4),
        "machines": " or ".join(sorted({_machine(one["versions"]) for one in told})),
        "peak_memory_gb": round(max(one["peak_memory_bytes"] for one in told) / 1e9, 2),
        "fingerprint": info["fingerprint"],
        "resumed": sum(bool(one["resumed"]) for one in told),
        "versions": _versions([one["versions"] for one in told]),
    }


def _versions(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the units tell; where they differ, each value with the number of units."""
    found: dict[str, Any] = {}
    for name in told[0]:
        counts = Counter(str(one.get(name)) for one in told)
        found[name] = (
            told[0][name]
            if len(counts) == 1
            else ", ".join(
                f"{value} ({count} run{'s' if count > 1 else ''})"
                for value, count in counts.items()
            )
        )
    found.pop("command", None)
    return found


def _machine(versions: Mapping[str, Any]) -> str:
    """What one unit ran on: its cores, and its accelerators where it had any."""
    devices, processor = str(versions["devices"]), str(versions["processor"])
    return processor if devices.endswith(" cpu") else f"{devices}, {processor}"
