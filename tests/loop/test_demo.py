"""The demo's second half: patients over HTTP, a new microscope, an alarm, a promotion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loopline.loop.demo import patients, run_whole_demo
from loopline.progress import SilentReporter


def test_a_new_microscope_shows_lengths_and_areas_larger() -> None:
    """1.35 times the radius is 1.8225 times the area; other columns and diagnoses stay."""
    before, after = patients(50, seed=1, size=1.0), patients(50, seed=1, size=1.35)
    ratio = {name: (after[name] / before[name]).to_numpy() for name in before.columns[:-1]}
    assert np.allclose(ratio["mean_radius"], 1.35)
    assert np.allclose(ratio["worst_area"], 1.35**2)
    assert np.allclose(ratio["mean_smoothness"], 1.0)
    assert before["diagnosis"].equals(after["diagnosis"])


@pytest.mark.slow
def test_the_demo_shows_the_whole_loop(tmp_path: Path) -> None:
    """Serves, drifts, alarms, trains, promotes; told in order, and in the report; once only."""
    said: list[str] = []
    whole = run_whole_demo(tmp_path, SilentReporter(), said.append)
    whats = [entry.what for entry in whole.timeline]
    assert whats.index("alarm") < whats.index("triggered") < whats.index("decided")
    assert any("Promoted" in entry.sentence for entry in whole.timeline)
    assert any("The service answers with" in line for line in said)
    assert "What the loop did" in whole.report.read_text(encoding="utf-8")
    assert len(run_whole_demo(tmp_path, SilentReporter()).timeline) == len(whole.timeline)
