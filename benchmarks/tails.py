"""How often does the interval of an RMSE hold the truth when a few rows carry the error?

Test sets of 30 to 1,000 rows are drawn from errors whose RMSE is known: by formula, by 20 million
draws, or, for two real tables, because the test errors of a boosted model *are* the population from
which sets are drawn. Counted are the sets whose 95 % interval ends below or above the truth; beside
it stands Student's interval on the scale of logarithms, with the same error and degrees of freedom.
`width` is the interval's median length over that of an oracle, which knows between which values
95 % of the RMSEs of such sets lie (both as logarithms). `told` is the share of sets whose estimate
says that few rows carry half of the loss.

    python benchmarks/tails.py [trials] [results.json]

The real tables are read from the folder `LOOPLINE_DATA`; without it they are left out.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import polars as pl

from loopline.evaluate.intervals import estimate_rows, student_quantile
from loopline.evaluate.metrics import metric
from loopline.evaluate.rows import Units

SIZES = (30, 50, 100, 200, 400, 1000)
DATA = Path(os.environ.get("LOOPLINE_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
TRUTH_DRAWS = 20


def proportional(rng, size):
    """Errors in proportion to a log-normal value."""
    signal, other, noise = rng.standard_normal((3, size))
    return np.exp(0.5 * signal + 0.2 * other + 0.3 * noise) - np.exp(0.5 * signal + 0.045)


def contaminated(share, factor):
    """Normal errors, of which a share is larger by a factor."""
    return lambda rng, size: (
        rng.standard_normal(size) * np.where(rng.random(size) < share, factor, 1.0)
    )


ERRORS = {
    "uniform": lambda rng, size: rng.uniform(-1, 1, size),
    "normal": lambda rng, size: rng.standard_normal(size),
    "Laplace": lambda rng, size: rng.laplace(size=size),
    "Student, 8 degrees": lambda rng, size: rng.standard_t(8, size),
    "Student, 5 degrees": lambda rng, size: rng.standard_t(5, size),
    "Student, 3 degrees": lambda rng, size: rng.standard_t(3, size),
    "in proportion to a log-normal value": proportional,
    "one of 20 four times as large": contaminated(0.05, 4.0),
    "one of 100 ten times as large": contaminated(0.01, 10.0),
}


def from_table(frame, target, num_train):
    """The test errors of a boosted model: a population to draw from, with its RMSE."""
    from lightgbm import LGBMRegressor

    frame = frame.sample(fraction=1.0, shuffle=True, seed=1)
    y = frame[target].to_numpy().astype(float)
    table = frame.drop(target).to_dummies(pl.selectors.string()).to_numpy().astype(float)
    model = LGBMRegressor(n_estimators=200, num_threads=1, verbose=-1, seed=1)
    model.fit(table[:num_train], y[:num_train])
    errors = y[num_train:] - model.predict(table[num_train:])
    return lambda rng, size: errors[rng.integers(len(errors), size=size)], errors


def real_errors():
    """(name, draw, true RMSE) of the tables that are here."""
    found = []
    homes, rides = DATA / "california_housing/housing.csv", DATA / "bike_sharing/hour.csv"
    if homes.exists():
        draw, errors = from_table(pl.read_csv(homes).drop_nulls(), "median_house_value", 6000)
        found.append(("california_housing", draw, math.sqrt(np.mean(errors**2))))
    if rides.exists():
        frame = pl.read_csv(rides).drop("casual", "registered", "dteday", "instant")
        draw, errors = from_table(frame, "cnt", 4000)
        found.append(("bike_sharing", draw, math.sqrt(np.mean(errors**2))))
    return found


def true_rmse(name, draw):
    """The RMSE of the population."""
    known = {
        "uniform": 1 / 3,
        "normal": 1.0,
        "Laplace": 2.0,
        "Student, 8 degrees": 8 / 6,
        "Student, 5 degrees": 5 / 3,
        "Student, 3 degrees": 3.0,
        "one of 20 four times as large": 0.95 + 0.05 * 16,
        "one of 100 ten times as large": 0.99 + 0.01 * 100,
    }
    if name in known:
        return math.sqrt(known[name])
    rng = np.random.default_rng(1)
    return math.sqrt(np.mean([np.mean(draw(rng, 1_000_000) ** 2) for _ in range(TRUTH_DRAWS)]))


def simulate(name, draw, truth, num_rows, trials):
    """One line of the results."""
    rmse, units = metric("rmse"), Units.build(None, num_rows)
    found = []
    for trial in range(trials):
        error = draw(np.random.default_rng([num_rows, trial]), num_rows)
        score = estimate_rows(rmse, rmse.rows(error, np.zeros(num_rows)), units)
        step = student_quantile(0.975, score.freedom) * score.standard_error / score.value
        ends = score.low, score.high, score.value * math.exp(-step), score.value * math.exp(step)
        found.append((*ends, score.value, bool(score.note)))
    low, high, plain_low, plain_high, value, told = np.array(found).T
    oracle = np.log(np.quantile(value, 0.975) / np.quantile(value, 0.025))
    return {
        "errors": name,
        "rows": num_rows,
        "coverage_percent": percent((low <= truth) & (truth <= high)),
        "truth_below_percent": percent(truth < low),
        "truth_above_percent": percent(truth > high),
        "width": round(float(np.median(np.log(high / low)) / oracle), 2),
        "student_coverage_percent": percent((plain_low <= truth) & (truth <= plain_high)),
        "student_width": round(float(np.median(np.log(plain_high / plain_low)) / oracle), 2),
        "told_percent": percent(told),
    }


def percent(mask):
    """Share of a mask in percent, one digit."""
    return round(100 * float(np.mean(mask)), 1)


def main():
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    target = Path(sys.argv[2] if len(sys.argv) > 2 else "benchmarks/results/tails.json")
    cases = [(name, draw, true_rmse(name, draw)) for name, draw in ERRORS.items()]
    lines = []
    for name, draw, truth in [*cases, *real_errors()]:
        for num_rows in SIZES:
            line = simulate(name, draw, truth, num_rows, trials)
            print(*line.values(), sep="\t", flush=True)
            lines.append(line)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"trials": trials, "coverage": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
