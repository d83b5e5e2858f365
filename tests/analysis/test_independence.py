"""The analysis half serves people who train elsewhere."""

from __future__ import annotations

import subprocess
import sys


def test_analysis_and_report_import_nothing_of_the_learning_half() -> None:
    program = """
import sys
import thyrojax.report.html, thyrojax.analysis.operating_point, thyrojax.analysis.cutoff
learning = ("jax", "flax", "thyrojax.data", "thyrojax.model", "thyrojax.train", "thyrojax.weights",
            "thyrojax.config")
late = ("matplotlib", "scipy", "PIL")
print([name for name in (*learning, *late) if name in sys.modules])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
