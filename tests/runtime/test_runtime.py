"""`loopline.runtime`: what the release answers, with numpy and the model's library alone."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loopline
from loopline.data.schema import Column, Schema
from loopline.errors import DataError, IntegrityError, NotFoundError
from loopline.features.contract import InputContract
from loopline.release.bundle import Release
from loopline.release.exports.forms import export
from loopline.release.exports.rows import plain_row, proof_rows
from loopline.runtime import Runtime, load
from loopline.runtime.contract import RowContract

WORDS = ("cheap", "fast", "schön", "ΟΔΟΣ", "late", "broken", "good", "bad", "never", "again")


def table(task: str, num_rows: int = 260) -> pl.DataFrame:
    """Every kind of column, with missing cells and blanks to strip."""
    rng = np.random.default_rng(4)
    x, z = rng.normal(size=num_rows), rng.normal(size=num_rows)
    city = rng.choice(["Bonn", "Kyoto", "Lima "], num_rows)
    score = 1.5 * x - z + (city == "Lima ") + rng.normal(scale=0.7, size=num_rows)
    target: Any = score
    if task == "binary":
        target = np.where(score > 0.4, "yes", "no")
    elif task == "multiclass":
        target = np.digitize(score, [-1.0, 1.0])
    start = dt.datetime(2019, 11, 2, 6, 30)
    times = [start + dt.timedelta(hours=int(hour)) for hour in rng.integers(0, 9000, num_rows)]
    notes = [" ".join(rng.choice(WORDS, 4)) + f" {rng.integers(100)}" for _ in range(num_rows)]
    gaps = rng.random(num_rows) < 0.1
    return pl.DataFrame(
        {
            "x": x,
            "z": [None if gap else float(value) for gap, value in zip(gaps, z, strict=True)],
            "rooms": rng.integers(1, 9, num_rows),
            "city": [None if gap else value for gap, value in zip(gaps[::-1], city, strict=True)],
            "seen": times,
            "born": [time.date() for time in times],
            "member": rng.random(num_rows) < 0.5,
            "note": notes,
            "y": target,
        }
    )


ROLES = {
    "seen": {"role": "feature"},
    "born": {"role": "feature"},
    "note": {"role": "feature", "type": "text"},
}
CASES = [
    ("linear", "binary"),
    ("lightgbm", "binary"),
    ("lightgbm", "regression"),
    ("xgboost", "multiclass"),
    ("catboost", "binary"),
    ("baseline", "regression"),
    ("mlp", "multiclass"),
]
PARAMS: dict[str, dict[str, Any]] = {
    "xgboost": {"rounds": 20},
    "catboost": {"rounds": 20},
    "mlp": {"epochs": 8, "width": 32, "members": 4},
}


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Release, Runtime]:
    """A release and its export, of several families and tasks."""
    family, task = request.param
    if family in ("xgboost", "catboost"):
        pytest.importorskip(family)
    if family == "mlp":
        pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp(f"{family}-{task}")
    result = loopline.fit(
        table(task),
        "y",
        task=task,
        models=[{family: PARAMS.get(family, {})}],
        store=folder / "store",
        progress=False,
        settings={"columns": ROLES, "split": {"folds": 2}, "threads": 1},
    )
    assert result.release.facts["family"] == family
    with loopline.open_project(folder / "store") as project:
        done = export(result.release, "folder", folder / "model", store=project.store)
    assert "kept rows and" in done.remarks[0]
    return result.release, load(folder / "model")


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Equal predictions; probabilities within the last bits (sums in another order)."""
    if isinstance(a["prediction"], float) and "probability" not in a:
        return abs(a["prediction"] - b["prediction"]) <= 1e-12 * max(1.0, abs(a["prediction"]))
    first, second = a["probability"], b["probability"]
    return a["prediction"] == b["prediction"] and all(
        abs(first[label] - second[label]) <= 1e-12 for label in (*first, *second)
    )


def test_rows_are_answered_as_by_the_release(pair: tuple[Release, Runtime]) -> None:
    """Training rows as JSON, and rows with missing, unseen and extreme cells."""
    release, runtime = pair
    rows = [plain_row(row) for row in table(release.task).drop("y").head(40).iter_rows(named=True)]
    rows += proof_rows(release, None, 60).rows
    for row, at_once in zip(rows, runtime.predict(rows), strict=True):
        assert same(release.predict_one(row), runtime.predict_one(row)), row
        assert same(release.predict_one(row), at_once), row


def test_python_values_are_read_as_json_is(pair: tuple[Release, Runtime]) -> None:
    """Dates and times of Python instead of ISO text."""
    release, runtime = pair
    for row in table(release.task).drop("y").head(20).iter_rows(named=True):
        assert same(release.predict_one(row), runtime.predict_one(row))


def test_what_it_is_exported_from_is_told(pair: tuple[Release, Runtime]) -> None:
    """Name, task, classes, columns and the release's id."""
    release, runtime = pair
    assert (runtime.id, runtime.name, runtime.task) == (release.id, release.name, release.task)
    assert runtime.classes == release.classes
    assert tuple(runtime.columns) == release.schema.features


def test_a_row_that_breaks_the_contract_is_refused(pair: tuple[Release, Runtime]) -> None:
    """Every problem is told in one error, as by the release; extra columns do not matter."""
    release, runtime = pair
    row = plain_row(table(release.task).drop("y").row(0, named=True))
    assert same(runtime.predict_one({**row, "more": 1}), runtime.predict_one(row))
    del row["rooms"]
    row["x"] = "many"
    for model in (release, runtime):
        with pytest.raises(DataError) as caught:
            model.predict_one(row)
        assert "'rooms' (a number) is absent" in str(caught.value)
        assert "'x' must hold a number" in str(caught.value)
    with pytest.raises(DataError, match=r"Row 1: .*'rooms'"):
        runtime.predict([{**row, "rooms": 1, "x": 1.0}, row])


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True, allow_infinity=True),
    st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1)),
    st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)),
    st.datetimes(
        dt.datetime(1700, 1, 1),
        dt.datetime(2200, 1, 1),
        timezones=st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=30))]),
    ),
    st.sampled_from(
        [
            "", " ", "1", " 25 ", "1e3", "-.5", "5.", "1e999", "nan", "inf", "1_000", "0x1", "１",
            "true", "FALSE ", "yes", "0", "2024-05-31", " 2024-05-31T13:45 ", "2024-02-30",
            "2024-05-31T13:45:00Z", "2024-05-31 13:45:00+05:30", "2024-05-31T13:45:00+99:00",
            "2024-05-31T13:45:00.123456", "2024-W01-1", "24-05-31", "\x1f7", "7\u00a0", "abc",
        ]
    ),
    st.text(max_size=4),
)  # fmt: skip


def contract_of_all_kinds(missing: str) -> InputContract:
    """One column of each kind that a table may have."""
    frame = pl.DataFrame(
        {
            "integer": [1, 2],
            "float": [0.5, 1.5],
            "boolean": [True, False],
            "text": ["a", "b"],
            "date": [dt.date(2020, 1, 1)] * 2,
            "datetime": [dt.datetime(2020, 1, 1, 5)] * 2,
            "seconds": [dt.timedelta(seconds=5)] * 2,
        }
    )
    types: dict[str, Any] = {"text": "category", "date": "datetime", "datetime": "datetime"}
    columns = tuple(
        Column(name, types.get(name, "boolean" if name == "boolean" else "number"), missing=missing)
        for name in frame.columns
    )
    contract = InputContract.learn(frame, Schema(columns, "regression"))
    assert [column.kind for column in contract.columns] == frame.columns
    return contract


@pytest.mark.parametrize("missing", ["auto", "error"])
@settings(max_examples=400, deadline=None)
@given(value=CELLS)
def test_a_cell_is_read_as_by_the_contract_or_refused(missing: str, value: Any) -> None:
    """For every kind of column and any cell: the same value and type, or a refusal; never another.

    What the contract refuses is refused.
    """
    contract = contract_of_all_kinds(missing)
    for column in contract.columns:
        alone = InputContract((column,))
        plain = RowContract(alone.to_dict(), {})
        row = {column.name: value}
        try:
            found = plain.check_row(row)[column.name]
        except DataError:
            continue
        expected = alone.check_row(row)[column.name]
        assert type(found) is type(expected), (column.kind, value, found, expected)
        assert found == expected, (column.kind, value, found, expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", "25"),
        ("float", " 2.5e3 "),
        ("boolean", "True"),
        ("boolean", 1),
        ("text", 7),
        ("date", "2024-05-31T13:45:00"),
        ("datetime", "2024-05-31"),
        ("datetime", "2024-05-31T13:45:00+05:30"),
    ],
)
def test_usual_slips_are_read(kind: str, value: Any) -> None:
    """Numbers as text, 0 and 1 for truth values, dates for times: the contract's answers."""
    contract = contract_of_all_kinds("auto")
    alone = InputContract(tuple(c for c in contract.columns if c.kind == kind))
    row = {kind: value}
    assert RowContract(alone.to_dict(), {}).check_row(row) == alone.check_row(row)


def test_an_amount_with_its_unit_is_refused() -> None:
    """Reading "$5" needs a table's machinery; the number is taken."""
    contract = InputContract.learn(
        pl.DataFrame({"price": [1.0, 2.5]}), Schema((Column("price", "number"),), "regression")
    )
    plain = RowContract(contract.to_dict(), {"price": "$#"})
    with pytest.raises(DataError, match=r"got '\$5': give the amount as a number"):
        plain.check_row({"price": "$5"})
    assert plain.check_row({"price": 5}) == {"price": 5.0}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a LightGBM model."""
    folder = tmp_path_factory.mktemp("exported")
    result = loopline.fit(
        table("binary").select("x", "city", "y"),
        "y",
        models="lightgbm",
        store=folder / "store",
        progress=False,
    )
    export(result.release, "folder", folder / "model")
    return folder / "model"


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(exported, tmp_path / "model")
    return tmp_path / "model"


def test_it_needs_no_package_but_numpy_and_lightgbm_library(exported: Path) -> None:
    """With polars, pydantic, SQLAlchemy and the rest out of reach, rows are answered.

    LightGBM's Python package is not imported either, only its library is opened.
    """
    code = (
        "import sys; from loopline.runtime.fresh import ABSENT, Without\n"
        "sys.meta_path.insert(0, Without(ABSENT))\n"
        "from loopline.runtime import load\n"
        "model = load(sys.argv[1])\n"
        "print(model.predict_one({'x': 1.5, 'city': 'Lima'})['prediction'])\n"
        "known = {name.split('.')[0] for name in sys.modules}\n"
        "print(*sorted(known - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(exported)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer, loaded = done.stdout.splitlines()
    assert answer in ("yes", "no")
    packages = {name for name in loaded.split() if not name.startswith("_")}
    assert packages <= {"loopline", "numpy", "sitecustomize"}


def test_nothing_of_the_training_rows_is_in_the_folder(exported: Path) -> None:
    """The contract's levels and quantiles, which training rows gave, stay in the release."""
    facts = json.loads((exported / "runtime.json").read_text())
    assert set(facts["contract"]["columns"][0]) == {"name", "kind", "zone", "missing"}


@pytest.mark.parametrize("name", ["runtime.json", "arrays.npz", "model.txt", "digests.json"])
def test_a_flipped_byte_is_found(copy: Path, name: str) -> None:
    """In whichever file it lies."""
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(IntegrityError):
        load(copy)


def _remove(folder: Path) -> None:
    (folder / "model.txt").unlink()


def _link(folder: Path) -> None:
    (folder / "model.txt").rename(folder.parent / "elsewhere.txt")
    (folder / "model.txt").symlink_to(folder.parent / "elsewhere.txt")


def _lead_outside(folder: Path) -> None:
    (folder / "model.txt").rename(folder.parent / "model.txt")
    text = (folder / "digests.json").read_text().replace('"model.txt"', '"../model.txt"')
    (folder / "digests.json").write_text(text)


def _name_pipe(folder: Path) -> None:
    (folder / "model.txt").unlink()
    os.mkfifo(folder / "model.txt")


@pytest.mark.parametrize("damage", [_remove, _link, _lead_outside, _name_pipe])
def test_only_plain_files_of_the_folder_are_read(
    copy: Path, damage: Callable[[Path], None]
) -> None:
    """A missing file, a link, a path that leads outside and a pipe are refused."""
    damage(copy)
    with pytest.raises(IntegrityError, match="missing or no plain file"):
        load(copy)


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    """The message names the command that makes one."""
    with pytest.raises(NotFoundError, match="loopline export RELEASE --to folder"):
        load(tmp_path)
