"""`split.label_end` through a whole line: settings, release and proof."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import loopline
from loopline.errors import DataError, SettingsError
from loopline.line.spec import make_spec
from loopline.line.verify import verify

SETTINGS: dict[str, Any] = {
    "split": {"label_end": "paid", "folds": 3, "gap": 86_400.0},
    "columns": {"granted": {"role": "time"}},
}


def loans(num_rows: int = 400) -> pl.DataFrame:
    """A loan every six hours; whether it was paid is known two to twelve days later."""
    rng = np.random.default_rng(0)
    granted = [datetime(2024, 1, 1) + timedelta(hours=6 * number) for number in range(num_rows)]
    income = rng.normal(size=num_rows)
    days = np.round(7 - 2 * income).clip(2, 12)
    paid = [
        start + timedelta(days=float(count)) for start, count in zip(granted, days, strict=True)
    ]
    good = income + rng.normal(scale=0.8, size=num_rows) > 0
    return pl.DataFrame(
        {
            "income": income,
            "age": rng.integers(20, 70, num_rows),
            "granted": granted,
            "paid": [None if number % 50 == 0 else end for number, end in enumerate(paid)],
            "good": np.where(good, "yes", "no"),
        }
    )


def fitted(frame: Any, folder: Path, settings: dict[str, Any]) -> loopline.Result:
    given: dict[str, Any] = {"models": ["linear", "lightgbm"], "progress": False}
    return loopline.fit(frame, "good", settings=settings, store=folder, **given)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> loopline.Result:
    folder = tmp_path_factory.mktemp("loans")
    loans().write_csv(folder / "loans.csv")
    return fitted(folder / "loans.csv", folder / "store", SETTINGS)


def test_the_end_of_the_window_reaches_no_model(result: loopline.Result) -> None:
    """It is left out of the features by itself, with the reason."""
    schema = result.release.schema
    assert schema.features == ("income", "age")
    column = schema.named("paid")
    assert column.role == "ignore"
    assert column.reason.startswith("the end of the label's window (`split.label_end`)")


def test_the_certificate_claims_label_windows_and_verify_proves_them(
    result: loopline.Result,
) -> None:
    """The claim stands in the release, its sentence is told, and the proof is made again."""
    certificate = result.release.facts["certificate"]
    windows = [c for c in certificate["claims"] if c["structure"] == "label window"]
    assert len(windows) == 4
    assert all(claim["required"] and not claim["straddling"] for claim in windows)
    assert "no label window of training meets one that is held out" in certificate["sentence"]
    assert result.summary["split"]["excluded"]["whose label was not known yet"] > 5
    told = " ".join(verify(result._project, result.summary["release"]).sentences)
    assert "no label window of training meets one that is held out" in told


def test_predictions_need_no_end_of_the_window(result: loopline.Result) -> None:
    """A new row has no label yet, so it has no end of its window either."""
    said = result.predict(loans().head(5).drop("paid", "good"))
    assert said.height == 5


def test_a_changed_column_of_ends_makes_another_split(
    result: loopline.Result, tmp_path: Path
) -> None:
    """Longer windows leave out more rows."""
    longer = loans().with_columns(pl.col("paid") + pl.duration(days=5))
    other = fitted(longer, tmp_path, SETTINGS)
    name = "whose label was not known yet"
    before = result.summary["split"]["excluded"][name]
    assert other.summary["split"]["excluded"][name] > before


def test_mixed_time_zones_are_refused(tmp_path: Path) -> None:
    """A start without and an end with a time zone cannot be compared, and the message says it."""
    mixed = loans().with_columns(pl.col("paid").dt.replace_time_zone("Europe/Berlin"))
    with pytest.raises(DataError, match=r"starts in 'granted' \(times without a time zone\)"):
        fitted(mixed, tmp_path, SETTINGS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": {"label_end": "paid"}}, r"`split.label_end` needs the column in which"),
        (
            {**SETTINGS, "columns": {**SETTINGS["columns"], "paid": {"role": "feature"}}},
            r"`columns.paid.role` is feature, but `split.label_end` names the column",
        ),
        (
            {"split": {"label_end": "good"}, "columns": SETTINGS["columns"]},
            r"is target, but `split.label_end` names the column",
        ),
        (
            {"split": {"label_end": "granted"}, "columns": SETTINGS["columns"]},
            r"`columns.granted.role` is time, but `split.label_end` names the column",
        ),
        (
            {"split": {"label_end": "paid", "method": "random"}},
            r"`split.label_end` has no effect with `split.method: random`",
        ),
    ],
)
def test_settings_that_contradict_windows_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    """Each contradiction is one sentence with the way out."""
    with pytest.raises(SettingsError, match=message):
        make_spec({"data": {"source": "loans.csv"}, "target": "good", **settings})


def test_an_unknown_column_is_named(tmp_path: Path) -> None:
    """A misspelt column is told with its neighbours."""
    wrong = {**SETTINGS, "split": {"label_end": "payd"}}
    with pytest.raises(SettingsError, match=r"There is no column 'payd'; did you mean 'paid'"):
        fitted(loans(), tmp_path, wrong)
