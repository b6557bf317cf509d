"""Evidently, NannyML, Frouros and River with their defaults on the streams of `drift.py`.

    PYTHONPATH=benchmarks python benchmarks/peers/drift_peers.py OUT.json REPEATS

What counts as an alarm of each: Evidently, any column that its data drift preset calls drifted;
NannyML, an alert of its univariate, missing or unseen value calculators on any column (shift,
unit, missing, category) or of realised accuracy (error); Frouros, Kolmogorov-Smirnov on numbers
and chi-square on the category at p < 0.05, and ADWIN on errors; River, ADWIN on each number and on
errors, which look at rows, not windows. Evidently and Frouros have no check of errors in windows.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from drift_streams import CHANGES, NUMBERS, REFERENCE, STABLE, Stream, independent

warnings.simplefilter("ignore")
SIZES = (50, 200, 1_000)
MOST_ROWS = {50: 3_000, 200: 6_000, 1_000: 12_000}
"""Rows after the change at most: these systems judge a window by itself; later ones say no more."""
FEWER = 4
"""Evidently takes a second or two a window: every so many of its stable windows are judged, once,
because they are the same before every change."""


def frame(part: Stream) -> pd.DataFrame:
    return pd.DataFrame(part.columns())


class Evidently:
    """Its preset for a whole table."""

    name = "Evidently 0.7.23, DataDriftPreset"

    def __init__(self, reference: Stream, size: int) -> None:
        from evidently import Report
        from evidently.presets import DataDriftPreset

        self.report = Report([DataDriftPreset()])
        self.reference = frame(reference)

    def alarm(self, window: Stream) -> bool:
        """Whether any column is called drifted."""
        done = self.report.run(frame(window), self.reference).dict()
        return any(
            float(metric["value"]) > 0.1
            if "p_value" not in metric["metric_name"]
            else float(metric["value"]) < 0.05
            for metric in done["metrics"]
            if metric["metric_name"].startswith("ValueDrift")
        )


class NannyML:
    """Its calculators with chunks of the window's size."""

    name = "NannyML 0.13.1"

    def __init__(self, reference: Stream, size: int) -> None:
        import nannyml as nml

        data = self.table(reference)
        numbers = [f"x{k}" for k in range(NUMBERS)]
        self.drift = nml.UnivariateDriftCalculator(column_names=[*numbers, "c"], chunk_size=size)
        self.missing = nml.MissingValuesCalculator(column_names=[*numbers, "c"], chunk_size=size)
        self.unseen = nml.UnseenValuesCalculator(column_names=["c"], chunk_size=size)
        self.quality = nml.PerformanceCalculator(
            metrics=["accuracy"], y_true="y", y_pred="guess", y_pred_proba="p",
            problem_type="classification_binary", chunk_size=size,
        )  # fmt: skip
        self.all = (self.drift, self.missing, self.unseen)
        for part in (*self.all, self.quality):
            part.fit(data)

    @staticmethod
    def table(part: Stream) -> pd.DataFrame:
        """Features, probability, label and outcome."""
        data = frame(part)
        data["p"], data["guess"], data["y"] = part.p, (part.p > 0.5).astype(int), part.y
        return data

    @staticmethod
    def alerts(result: object) -> np.ndarray:
        """Which chunks have any alert."""
        table = result.filter(period="analysis").to_df()
        return table.loc[:, [c for c in table.columns if c[-1] == "alert"]].any(axis=1).to_numpy()

    def alarms(self, rows: Stream, change: str) -> np.ndarray:
        """Which chunks have an alert of what the change is about."""
        data = self.table(rows)
        if change.startswith("error"):
            return self.alerts(self.quality.calculate(data))
        return np.any([self.alerts(part.calculate(data)) for part in self.all], axis=0)


class Frouros:
    """A test for each column."""

    name = "Frouros 0.9.0, KS and chi-square at 0.05"

    def __init__(self, reference: Stream, size: int) -> None:
        from frouros.detectors.data_drift import ChiSquareTest, KSTest

        self.tests = []
        for name, values in reference.columns().items():
            test = ChiSquareTest() if name == "c" else KSTest()
            test.fit(X=values)
            self.tests.append((name, test))

    def alarm(self, window: Stream) -> bool:
        """Whether any column is called drifted."""
        columns = window.columns()
        for name, test in self.tests:
            values = columns[name]
            if name != "c":
                values = values[np.isfinite(values)]
            if values.size and test.compare(X=values)[0].p_value < 0.05:
                return True
        return False


def windowed(make: Callable, size: int, change: str, repeats: int) -> dict:
    found, false, judged, spent, windows = [], 0, 0, 0.0, 0
    system = make.name
    for seed in range(repeats):
        stream = independent(seed, change, MOST_ROWS[size])
        one = make(stream.part(0, REFERENCE), size)
        step = size * (FEWER if make is Evidently else 1)
        begun = time.perf_counter()
        if make is NannyML:
            alarms = one.alarms(stream.part(REFERENCE, len(stream.p)), change)
            windows += alarms.size
            cut = STABLE // size
            false, judged = false + int(alarms[:cut].sum()), judged + cut
            hit = np.flatnonzero(alarms[cut:])
            found.append(int((hit[0] + 1) * size) if hit.size else None)
            spent += time.perf_counter() - begun
            continue
        calm = range(REFERENCE, REFERENCE + STABLE, step)
        if make is Evidently and change != CHANGES[0]:
            calm = range(0)
        for at in calm:
            false += one.alarm(stream.part(at, at + size))
            judged += 1
            windows += 1
        first = None
        for at in range(REFERENCE + STABLE, len(stream.p) - size + 1, size):
            windows += 1
            if one.alarm(stream.part(at, at + size)):
                first = at + size - REFERENCE - STABLE
                break
        found.append(first)
        spent += time.perf_counter() - begun
    return row(system, size, change, found, false / judged if judged else None, spent / windows)


def adwin(kind: str, change: str, repeats: int) -> dict:
    """ADWIN of River or Frouros on errors, or River's on each number; row by row."""
    found, false, rows = [], 0, 0
    for seed in range(repeats):
        stream = independent(seed, change, 8_000)
        if change.startswith("error"):
            series = [((stream.p > 0.5) != stream.y).astype(float)]
        else:
            series = [stream.x[:, k] for k in range(NUMBERS)]
        first = None
        for values in series:
            update = river_adwin() if kind == "river" else frouros_adwin()
            for k, value in enumerate(values):
                if not np.isfinite(value) or not update(float(value)):
                    continue
                late = k + 1 - REFERENCE - STABLE
                if late <= 0:
                    false += k >= REFERENCE
                else:
                    first = late if first is None else min(first, late)
                    break
        rows += STABLE
        found.append(first)
    names = {"river": "River 0.23.0, ADWIN", "frouros": "Frouros 0.9.0, ADWIN"}
    return {
        **row(names[kind], 1, change, found, 0.0, 0.0),
        "false_alarms_per_10k_rows": 1e4 * false / rows,
    }


def river_adwin() -> Callable[[float], bool]:
    from river.drift import ADWIN

    detector = ADWIN()

    def update(value: float) -> bool:
        detector.update(value)
        return bool(detector.drift_detected)

    return update


def frouros_adwin() -> Callable[[float], bool]:
    from frouros.detectors.concept_drift import ADWIN

    detector = ADWIN()

    def update(value: float) -> bool:
        detector.update(value=value)
        drift = bool(detector.drift)
        if drift:
            detector.reset()
        return drift

    return update


def row(system: str, size: int, change: str, found: list, false: float, seconds: float) -> dict:
    full = sorted(np.inf if rows is None else rows for rows in found)
    middle = full[(len(full) - 1) // 2]
    return {
        "system": system, "size": size, "change": change,
        "median_rows": None if np.isinf(middle) else int(middle),
        "missed": float(np.mean([rows is None for rows in found])),
        "false_windows": false, "seconds_a_window": seconds,
    }  # fmt: skip


def main() -> None:
    out, repeats = Path(sys.argv[1]), int(sys.argv[2])
    only = (
        sys.argv[3].split(",")
        if len(sys.argv) > 3
        else ["evidently", "nannyml", "frouros", "adwin"]
    )
    found = json.loads(out.read_text()) if out.exists() else []
    for change in CHANGES:
        for size in SIZES:
            for key, make in (("evidently", Evidently), ("nannyml", NannyML), ("frouros", Frouros)):
                if key not in only or (change.startswith("error") and make is not NannyML):
                    continue
                fewer = max(repeats // 3, 3) if make is Evidently else repeats
                found.append({**windowed(make, size, change, fewer), "repeats": fewer})
                print(found[-1], flush=True)
        if "adwin" in only and not change.startswith("new"):
            found.append({**adwin("river", change, repeats), "repeats": repeats})
            print(found[-1], flush=True)
            if change.startswith("error"):
                found.append({**adwin("frouros", change, repeats), "repeats": repeats})
                print(found[-1], flush=True)
        out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
