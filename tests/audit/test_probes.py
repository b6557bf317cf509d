"""Four tables on which validation scores are known to lie: here they do not, and the cause is told.

Each has coin flips or a copy of the label for an answer. The validation (out-of-fold) score has to
lie within 0.05 of the score on fresh rows, and the audit has to name why it would not have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import loopline
from loopline.errors import LeakError

NUM_FRESH = 3_000


def noise(num_rows: int, seed: int) -> pl.DataFrame:
    """Six features that know nothing."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame({f"x{k}": rng.normal(size=num_rows) for k in range(6)})


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line keeps its store in a folder of its own."""
    monkeypatch.chdir(tmp_path)


def coins(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return frame.with_columns(pl.Series("y", rng.integers(0, 2, frame.height)))


def fitted(frame: pl.DataFrame, **settings: Any) -> loopline.Result:
    given = {"audit": "repair", **settings}
    return loopline.fit(frame, "y", models=["lightgbm"], settings=given, progress=False)


def gap(result: loopline.Result, fresh: pl.DataFrame) -> float:
    """Out-of-fold AUC less the AUC on rows that the run never saw."""
    claimed = result.summary["out_of_fold"]["auc"]["value"]
    return abs(claimed - result.evaluate(fresh)["auc"]["value"])


def told(result: loopline.Result, *checks: str) -> list[dict[str, Any]]:
    return [finding for finding in result.summary["audit"] if finding["check"] in checks]


def test_coin_flips_of_rows_that_stand_twice() -> None:
    """Each row twice: copies share a side, and the audit counts them."""
    half = coins(noise(1_000, 0), 1)
    result = fitted(pl.concat([half, half]).sample(fraction=1.0, shuffle=True, seed=2))
    assert gap(result, coins(noise(NUM_FRESH, 3), 4)) <= 0.05
    (finding,) = told(result, "exact_duplicates")
    assert finding["num_rows"] == 2_000
    assert finding["remedy"]["applied"]
    assert finding["worth"]["claimed"]["value"] > 0.7
    assert finding["worth"]["repaired"]["low"] <= 0.5 <= finding["worth"]["repaired"]["high"]


def test_coin_flips_of_rows_with_a_jittered_twin() -> None:
    """Copies moved by N(0, 0.001) are found as near duplicates and share a side."""
    half = coins(noise(1_000, 0), 1)
    rng = np.random.default_rng(5)
    moved = half.with_columns(
        pl.col(f"x{k}") + pl.Series(rng.normal(size=1_000) * 1e-3) for k in range(6)
    )
    result = fitted(pl.concat([half, moved]).sample(fraction=1.0, shuffle=True, seed=2))
    assert gap(result, coins(noise(NUM_FRESH, 3), 4)) <= 0.05
    (finding,) = told(result, "near_duplicates")
    assert finding["num_rows"] >= 1_990
    assert finding["remedy"]["applied"]
    assert finding["worth"]["claimed"]["value"] > 0.7


def with_copy(num_rows: int, seed: int) -> pl.DataFrame:
    """Labels that two features know a little of, and a column that says 98 of 100 of them."""
    rng = np.random.default_rng(100 + seed)
    frame = noise(num_rows, seed)
    y = (frame["x0"] + frame["x1"] + pl.Series(rng.normal(size=num_rows) * 2) > 0).cast(pl.Int64)
    said = np.where(rng.random(num_rows) < 0.98, y.to_numpy(), 1 - y.to_numpy())
    return frame.with_columns(y.alias("y"), pl.Series("approved", said))


def test_a_copy_of_the_label_that_is_absent_when_serving() -> None:
    """The column is left out with a loud line, so its absence changes nothing."""
    result = fitted(with_copy(2_000, 0))
    fresh = with_copy(NUM_FRESH, 1).with_columns(pl.lit(None, pl.Int64).alias("approved"))
    assert gap(result, fresh) <= 0.05
    (finding,) = told(result, "noisy_copy")
    assert (finding["severity"], finding["columns"]) == ("leak", ["approved"])
    assert finding["worth"]["claimed"]["value"] > 0.95
    assert finding["worth"]["repaired"]["value"] < 0.85
    assert finding["remedy"]["applied"]


def test_a_copy_of_the_label_stops_a_run_that_may_not_repair() -> None:
    """Without a word from the user a suspected copy ends the run with its name."""
    with pytest.raises(LeakError, match="'approved' says the target 'y' on 9"):
        loopline.fit(with_copy(2_000, 0), "y", models=["lightgbm"], progress=False)


def customers(first: int, number: int, seed: int) -> pl.DataFrame:
    """Twenty rows a customer around the customer's own centre, and one coin flip for each."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(number), 20)
    centre = rng.normal(size=(number, 5))
    x = centre[who] + 0.3 * rng.normal(size=(who.size, 5))
    return pl.DataFrame(
        {
            "cust": who + first,
            **{f"x{k}": x[:, k] for k in range(5)},
            "y": rng.integers(0, 2, number)[who],
        }
    )


def test_a_random_label_for_each_customer() -> None:
    """The customer is found to be a group without being named, and stays on one side."""
    result = fitted(customers(0, 150, 0))
    assert gap(result, customers(1_000, 500, 1)) <= 0.05
    finding = next(each for each in told(result, "groups") if each["columns"] == ["cust"])
    assert finding["severity"] == "repairable"
    assert finding["remedy"]["applied"]
    assert finding["worth"]["claimed"]["value"] > 0.95
    assert finding["worth"]["repaired"]["value"] < 0.65


def test_a_random_label_for_each_customer_that_nothing_else_tells() -> None:
    """The same when rows of one customer have nothing in common but the label."""
    frame = customers(0, 150, 0)
    plain = noise(frame.height, 7).with_columns(frame["cust"], frame["y"])
    result = fitted(plain)
    other = customers(1_000, 500, 1)
    fresh = noise(other.height, 8).with_columns(other["cust"], other["y"])
    assert gap(result, fresh) <= 0.05
    finding = next(each for each in told(result, "groups") if each["columns"] == ["cust"])
    assert finding["severity"] == "repairable"
