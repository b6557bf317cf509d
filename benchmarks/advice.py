"""How often do the intervals of advice hold?

`rows`: small tables are drawn from large ones, a line is run on each and its learning curve is
extrapolated. What twice, four and ten times the rows truly bring is known, because the large table
gives them: models of such sizes are fitted on fresh draws and scored on 6,000 rows that nothing
else sees. Counted are the lines whose 95 % interval holds the mean gain, and beside it how wide
the interval is against the truth. `held out` counts, on the same lines, the largest one or two
sizes of the curve, foretold from the smaller ones (with the luck of the one fit that is met).

`made`: the same with curves of known shape (power laws, and shapes that are none), without models.

`idle`: the other steps on rows of a linear model with right labels, where a larger family,
calibration and a look at the labels bring nothing. How often does an interval lie above 0? (Leaving
out the six columns of noise truly brings a little.)

    python benchmarks/advice.py rows TABLE FAMILY [lines] [results.json]
    python benchmarks/advice.py made [curves] [results.json]
    python benchmarks/advice.py idle [lines] [results.json]

TABLE is adult, california or noise (made up, no file needed); the real tables are read from the
folder `LOOPLINE_DATA`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

import loopline
from loopline.data.schema import Schema
from loopline.evaluate.extrapolate import fit_power_law
from loopline.evaluate.metrics import metric
from loopline.line.advise import advise
from loopline.line.curves import learning_curve
from loopline.line.finished import finished_run
from loopline.models.base import FitContext
from loopline.models.families import family
from loopline.testing.splitters import view_of

DATA = Path(os.environ.get("LOOPLINE_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
ROWS = 1_250
TIMES = (2, 4, 10)
SCORED = 6_000
TRUTH_FITS = 16
"""Of the largest size; the smaller ones are fitted more often, since their luck is larger."""


def adult():
    """Census rows: who earns more than 50,000 dollars?"""
    names = [
        *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status"),
        *("occupation", "relationship", "race", "sex", "capital_gain", "capital_loss"),
        *("hours_per_week", "native_country", "income"),
    ]
    frame = pl.read_csv(
        DATA / "adult/adult.data", has_header=False, new_columns=names, null_values="?"
    )
    frame = frame.with_columns(pl.col(pl.String).str.strip_chars())
    return frame.drop("fnlwgt").drop_nulls("income"), "income", {"positive": ">50K"}


def california():
    """Districts of 1990: what does a house cost?"""
    return pl.read_csv(DATA / "california_housing/housing.csv"), "median_house_value", {}


def noise():
    """Twelve columns, four of them useful, and values that overlap."""
    rng = np.random.default_rng(99)
    x = rng.normal(size=(40_000, 12))
    signal = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * x[:, 3]
    y = signal + rng.normal(scale=1.0, size=len(x))
    frame = pl.DataFrame({f"x{place}": x[:, place] for place in range(12)})
    return frame.with_columns(y=pl.Series(y)), "y", {}


TABLES = {"adult": adult, "california": california, "noise": noise}


def line_on(frame, target, settings, kind, store, **more):
    """A line without a test side on some rows."""
    return loopline.fit(
        frame,
        target,
        models=[kind],
        settings={**settings, "audit": "report", "split": {"test": 0.0}, "threads": 1, **more},
        store=store,
        progress=False,
    )


def true_losses(frame, target, settings, kind, rng):
    """The mean loss of models of each size, with its standard error, on rows of their own."""
    with tempfile.TemporaryDirectory() as folder:
        result = line_on(frame.head(ROWS), target, settings, kind, folder)
        schema = Schema.from_dict(result.release.facts["schema"])
        goal = metric(result.summary["metric"], schema.task)
    view = view_of(frame, schema)
    order = rng.permutation(frame.height)
    scored, pool = view.subset(np.sort(order[:SCORED])), order[SCORED:]
    size = int(0.8 * ROWS)
    found = {}
    for times in (1, *TIMES):
        losses = []
        for _ in range(TRUTH_FITS * TIMES[-1] // times // 2):
            rows = rng.choice(pool, size * times, replace=False)
            found_loss = _loss(kind, view.subset(np.sort(rows)), scored, schema, goal, rng)
            losses.append(found_loss)
        found[times] = float(np.mean(losses)), float(np.std(losses) / np.sqrt(len(losses)))
    return goal, found, pool


def _loss(kind, train, scored, schema, goal, rng):
    fitter = family(kind)
    params = fitter.defaults(schema.task, train.num_rows) | fitter.aim(schema.task, goal.name)
    valid = None
    if fitter.uses_validation:
        train, valid = train.holdout(0.1, int(rng.integers(1 << 30)))
    model = fitter.fit(train, valid, params, FitContext(int(rng.integers(1 << 30))))
    return -goal.sign * goal(scored.target, model.predict_view(scored))


def held_out(curve, covariance):
    """Whether gains seen at the largest sizes lie in what the smaller ones foretell."""
    sizes, losses = curve.law.sizes, curve.law.losses
    noise = np.array([point.error**2 for point in curve.points])
    seen = []
    for last in (1, 2):
        keep = sizes.size - last
        if keep < 3:
            continue
        law = fit_power_law(
            sizes[:keep], losses[:keep], covariance[:keep, :keep], noise=noise[:keep]
        )
        draws = law.gains(sizes[-1])
        rng = np.random.default_rng(1)
        of_rows = covariance[-1, -1] + covariance[keep - 1, keep - 1] - 2 * covariance[-1, keep - 1]
        luck = np.sqrt(noise[-1] + noise[keep - 1] + max(of_rows, 0.0))
        low, high = np.quantile(draws + luck * rng.standard_normal(draws.size), [0.025, 0.975])
        seen.append(bool(low <= losses[keep - 1] - losses[-1] <= high))
    return seen


def rows(name, kind, lines):
    """Coverage of the gain by more rows, on lines drawn from a large table."""
    frame, target, settings = TABLES[name]()
    rng = np.random.default_rng(0)
    goal, truth, pool = true_losses(frame, target, settings, kind, rng)
    covered = {times: [] for times in TIMES}
    width = {times: [] for times in TIMES}
    middle = {times: [] for times in TIMES}
    foretold = []
    for _ in range(lines):
        part = frame[np.sort(rng.choice(pool, ROWS, replace=False))]
        with tempfile.TemporaryDirectory() as folder:
            result = line_on(part, target, settings, kind, folder)
            curve = learning_curve(finished_run(result.project, result.run))
            result.project.close()
        foretold += held_out(curve, curve.covariance)
        for times in TIMES:
            gain = curve.law.gain(times * curve.law.largest)
            true = truth[1][0] - truth[times][0]
            slack = 1.96 * np.hypot(truth[1][1], truth[times][1])
            covered[times].append(bool(gain.low - slack <= true <= gain.high + slack))
            width[times].append(gain.high - gain.low)
            middle[times].append(gain.value)
    return {
        "table": name,
        "family": kind,
        "metric": goal.name,
        "lines": lines,
        "rows": ROWS,
        "times": {
            str(times): {
                "true gain": round(truth[1][0] - truth[times][0], 5),
                "its error": round(float(np.hypot(truth[1][1], truth[times][1])), 5),
                "covered": round(float(np.mean(covered[times])), 3),
                "median foretold": round(float(np.median(middle[times])), 5),
                "median width": round(float(np.median(width[times])), 5),
            }
            for times in TIMES
        },
        "held out": {"sizes": len(foretold), "covered": round(float(np.mean(foretold)), 3)},
    }


SHAPES = {
    "power law": lambda n, c, k: 0.2 + 3 * (n / 100) ** -c,
    "Morgan-Mercer-Flodin": lambda n, c, k: 0.2 + 0.5 / (1 + (n / k) ** c),
    "stretched exponential": lambda n, c, k: 0.2 + 0.5 * np.exp(-((n / k) ** (c / 2))),
    "logarithm": lambda n, c, k: 1 - 0.05 * np.log(n),
    "flat": lambda n, c, k: 0.3 + 0 * n,
}


def made(curves):
    """Coverage on curves of known shape; noise as a share of what the curve falls in all."""
    found = []
    for shape, at in SHAPES.items():
        for noise_share in (0.02, 0.1, 0.5):
            rng = np.random.default_rng(0)
            covered = dict.fromkeys(TIMES, 0)
            for trial in range(curves):
                c, k = rng.uniform(0.2, 1.2), rng.uniform(200, 3000)
                sizes = 8_000 * np.array([1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])
                clean = at(sizes, c, k)
                fall = abs(clean[0] - clean[-1]) or 0.1
                row, luck = 0.2 * noise_share * fall, 0.25 * noise_share * fall
                luck = luck * np.sqrt(sizes[-1] / sizes)
                seen = clean + fall * rng.normal() + row * rng.normal(size=5)
                seen = seen + luck * rng.normal(size=5)
                covariance = fall**2 * np.ones((5, 5)) + row**2 * np.eye(5)
                law = fit_power_law(sizes, seen, covariance, noise=luck**2, seed=trial)
                for times in TIMES:
                    gain = law.gain(8_000 * times)
                    true = float(at(8_000.0, c, k) - at(8_000.0 * times, c, k))
                    covered[times] += gain.low <= true <= gain.high
            found.append(
                {
                    "shape": shape,
                    "noise": noise_share,
                    "covered": {str(t): round(covered[t] / curves, 3) for t in TIMES},
                }
            )
    return found


def idle(lines):
    """How often advice finds a step worth it where none is: clean labels, idle columns."""
    wrong: dict[str, list[bool]] = {}
    for seed in range(lines):
        rng = np.random.default_rng(1000 + seed)
        x = rng.normal(size=(800, 8))
        chance = 1 / (1 + np.exp(-(1.2 * x[:, 0] - 0.8 * x[:, 1])))
        frame = pl.DataFrame({f"x{place}": x[:, place] for place in range(8)})
        frame = frame.with_columns(y=pl.Series((rng.random(800) < chance).astype(int)))
        with tempfile.TemporaryDirectory() as folder:
            result = loopline.fit(
                frame, "y", models=["linear", "lightgbm"], store=folder, progress=False,
                settings={"split": {"test": 0.0}, "threads": 1},
            )  # fmt: skip
            found = advise(result.project, result.run)
            result.project.close()
        for step in found.steps:
            if step.kind in ("fix_labels", "drop_columns", "calibration") or (
                step.kind == "family" and result.summary["chosen"] == "linear"
            ):
                wrong.setdefault(step.kind, []).append(bool(step.worth.low > 0))
    return {kind: {"asked": len(told), "said": sum(told)} for kind, told in wrong.items()}


if __name__ == "__main__":
    mode, *given = sys.argv[1:]
    target = given.pop() if given and given[-1].endswith(".json") else None
    if mode == "rows":
        answer = rows(given[0], given[1], int(given[2]) if len(given) > 2 else 30)
        key = f"rows {given[0]} {given[1]}"
    elif mode == "made":
        answer, key = made(int(given[0]) if given else 400), "made"
    else:
        answer, key = idle(int(given[0]) if given else 30), "idle"
    print(json.dumps(answer, indent=1))
    if target is not None:
        place = Path(target)
        known = json.loads(place.read_text()) if place.exists() else {}
        place.write_text(json.dumps({**known, key: answer}, indent=1) + "\n")
