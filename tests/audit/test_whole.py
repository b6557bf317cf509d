"""The whole audit of a table: it tells what is in the way of a score, and does not stop at it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopline.audit.finding import Finding
from loopline.audit.whole import Audited, audit_frame
from loopline.data.inference import infer_schema
from loopline.errors import LooplineError

START = datetime(2024, 1, 1, tzinfo=UTC)


def audited(frame: pl.DataFrame, target: str = "y", **overrides: Any) -> Audited:
    """The audit of a table of which nothing but the target is known."""
    return audit_frame(frame, infer_schema(frame, target=target, overrides=overrides))


def only(found: Audited, check: str) -> Finding:
    (finding,) = [each for each in found.findings if each.check == check]
    return finding


def numbers(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"x{i}": rng.normal(size=rows) for i in range(3)}


@pytest.mark.parametrize("role", ["time", "feature"])
def test_a_class_that_comes_late_is_told_and_no_crash(role: str) -> None:
    """All rows of one class lie in the last tenth of the time: no forward split can be made."""
    when = [START + timedelta(hours=i) for i in range(600)]
    frame = pl.DataFrame(
        {**numbers(600), "when": when, "y": (np.arange(600) >= 540).astype(int)},
    )
    found = audited(frame, when={"role": role})
    assert found.split is not None
    if role == "time":
        finding = only(found, "no_split")
        assert (finding.severity, finding.columns) == ("warning", ("when",))
        assert "cannot be divided by 'when'" in finding.sentence
    told = [each.check for each in found.findings if "when" in each.columns]
    assert told


def test_one_site_that_holds_most_rows_is_told_and_no_crash() -> None:
    """Four fifths of the rows are of one site."""
    site = np.where(np.arange(500) < 400, 0, np.arange(500) % 10)
    frame = pl.DataFrame({**numbers(500), "site": site, "y": np.arange(500) % 2})
    found = audited(frame, site={"role": "group"})
    assert "cannot be divided by 'site'" in only(found, "no_split").sentence


def odd_tables() -> dict[str, pl.DataFrame]:
    """Tables of columns that no model would want."""
    rows = 400
    rng = np.random.default_rng(0)
    y = pl.Series("y", rng.integers(0, 2, rows))
    plain = pl.DataFrame(numbers(rows))
    day = [START + timedelta(days=int(i) // 40) for i in range(rows)]
    late = [START + timedelta(days=i if i < 200 else i + 900) for i in range(rows)]
    zoned = pl.Series(late).dt.convert_time_zone("Pacific/Auckland")
    with_y = plain.with_columns(y)
    return {
        "one value": with_y.with_columns(same=pl.lit(7), word=pl.lit("same")),
        "nothing but one value": pl.DataFrame({"same": [1] * rows}).with_columns(y),
        "all empty": with_y.with_columns(
            none=pl.lit(None, dtype=pl.Float64), words=pl.lit(None, dtype=pl.String)
        ),
        "groups of one row": with_y.with_columns(patient_id=pl.Series(rng.permutation(rows))),
        "times with ties": with_y.with_columns(recorded_at=pl.Series(day)),
        "times with gaps": with_y.with_columns(recorded_at=pl.Series(late)),
        "times in zones": with_y.with_columns(recorded_at=zoned),
        "one time": with_y.with_columns(recorded_at=pl.Series([START] * rows)),
        "not a number, infinite": with_y.with_columns(
            odd=pl.Series([float("nan"), float("inf"), -float("inf"), 1.0] * (rows // 4))
        ),
        "hardly a row": with_y.head(12),
    }


@pytest.mark.parametrize("name", list(odd_tables()))
def test_odd_columns_are_audited_without_a_crash(name: str) -> None:
    """What can be looked at is; the rest is left out, and a split is proposed."""
    found = audited(odd_tables()[name])
    assert found.split is not None
    assert all(each.sentence for each in found.findings)


def test_ten_thousand_classes_of_two_rows_are_refused_in_words() -> None:
    """Two rows of each class cannot be divided; the error says which class is in the way."""
    rows = 20_000
    frame = pl.DataFrame(
        {**numbers(rows), "y": [f"c{i // 2}" for i in range(rows)]},
    )
    with pytest.raises(LooplineError, match="class"):
        audited(frame)


def test_texts_in_a_hundred_languages_are_audited() -> None:
    """Letters of all kinds, right to left, without blanks, combined: never a crash."""
    alphabets = [chr(start + i) for start in range(0x80, 0x2FA1D, 1777) for i in (0, 1)]
    letters = [each for each in alphabets if each.isalpha()][:100]
    rng = np.random.default_rng(0)
    texts = [
        " ".join(letters[i % len(letters)] * int(size) for size in rng.integers(1, 9, 12))
        for i in range(400)
    ]
    frame = pl.DataFrame({"text": texts, "y": rng.integers(0, 2, 400)})
    found = audited(frame, text={"type": "text"})
    assert found.split is not None


def test_images_that_do_not_decode_are_told(tmp_path: Any) -> None:
    """Half of the files are no images: the finding names them."""
    pytest.importorskip("PIL")
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = []
    for i in range(60):
        path = tmp_path / f"{i:03d}.png"
        if i % 2:
            path.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        else:
            Image.fromarray(rng.integers(0, 255, (24, 24), dtype=np.uint8)).save(path)
        paths.append(str(path))
    frame = pl.DataFrame({"picture": paths, "size": rng.normal(size=60), "y": [0, 1] * 30})
    found = audited(frame.with_columns(y=pl.Series(rng.integers(0, 2, 60))))
    told = " ".join(each.sentence for each in found.findings)
    assert "unreadable" in told


def test_copies_of_all_kinds_have_one_price() -> None:
    """Coin flips with exact and jittered copies: chance is left once both are whole."""
    rng = np.random.default_rng(0)
    plain = pl.DataFrame(numbers(400)).with_columns(y=pl.Series(rng.integers(0, 2, 400)))
    exact = plain.head(40)
    near = plain.tail(200).with_columns(
        pl.col(name) + pl.Series(1e-4 * rng.normal(size=200)) for name in ("x0", "x1", "x2")
    )
    found = audited(pl.concat([plain, exact, near]))
    first, second = only(found, "exact_duplicates"), only(found, "near_duplicates")
    assert first.worth is not None
    assert first.worth == second.worth
    assert first.worth.claimed.value > 0.6
    assert first.worth.repaired.low < 0.5 < first.worth.repaired.high


def test_a_found_time_that_no_split_can_use_is_told_and_not_applied() -> None:
    """Labels follow a counter, but one class ends early: a warning, and the rows are dealt."""
    rng = np.random.default_rng(1)
    step = np.arange(900)
    y = ((step // 30) % 2) * (step < 300)
    values = {f"x{i}": np.cumsum(rng.normal(size=900)) for i in range(3)}
    frame = pl.DataFrame({**values, "step": step, "y": y})
    found = audited(frame)
    times = [each for each in found.findings if each.check == "time"]
    assert all(each.severity != "repairable" for each in times)
    assert found.split is not None
    assert found.split.order is None
