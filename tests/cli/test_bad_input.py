"""Bad input on the whole line: a clear message, the documented exit code, nothing half-written."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.cli.conftest import Call, write_line
from tests.line.conftest import make_table

from loopline.cli.edge import guarded

ROWS = 60
TABLE = make_table(ROWS)
NUMBER = pl.int_range(ROWS)


def having(**columns: Any) -> pl.DataFrame:
    """The small table with columns added or replaced."""
    return TABLE.with_columns(**columns)


def role(name: str, value: str) -> dict[str, Any]:
    return {"columns": {name: {"role": value}}}


TABLES: dict[str, tuple[pl.DataFrame | bytes, dict[str, Any], int, str]] = {
    "empty file": (b"", {}, 2, "d.csv is empty (0 bytes)"),
    "header only": (b"a,b,bought\n", {}, 2, "but no rows"),
    "ragged": (b"a,b,bought\n1,2,yes\n1,no\n3,4,no\n", {}, 2, "line 3 has 2"),
    "repeated name": (b"a,a,bought\n1,2,yes\n3,4,no\n", {}, 2, "repeated: 'a'"),
    "binary file": (bytes([1, 0, 7, 200] * 99), {}, 2, "is no text table"),
    "no target": (TABLE.rename({"bought": "Bought"}), {}, 2, "did you mean 'Bought'"),
    "header of numbers": (
        TABLE.rename({"x": "1"}), {}, 2, "`header: true` under `data.format`",
    ),
    "one class": (having(bought=pl.lit("yes")), {}, 2, "one value only ('yes')"),
    "missing labels": (
        having(bought=pl.when(NUMBER > 4).then("bought")), {}, 2, "missing in 5 of 60 rows",
    ),
    "no label": (having(bought=pl.lit(None, dtype=pl.String)), {}, 2, "has no label: all 60"),
    "dates as target": (having(bought=pl.date(2020, 1, 1) + pl.duration(days=NUMBER)), {}, 2,
        "of type Date"),
    "two rows": (TABLE.head(2).with_columns(bought=pl.Series(["a", "b"])), {}, 3, "test side"),
    "class of one row": (
        having(bought=pl.when(NUMBER > 0).then("bought").otherwise(pl.lit("rare"))), {}, 3,
        "Class 'rare' has no row"),
    "all constant": (TABLE.select("bought", c=pl.lit("k")), {}, 2, "No column is left"),
    "only an id": (TABLE.select("bought", id=NUMBER), {}, 2, "counts the rows one by one"),
    "own column name": (TABLE.rename({"x": "loopline_part"}), {}, 2, "is Loopline's own"),
    "target as weight": (TABLE, role("bought", "weight"), 2, "the column is the `target`"),
    "negative weight": (having(w=1.0 - NUMBER), role("w", "weight"), 2,
        "58 of 60 rows break that; the first is -1.0 in row 2"),
    "missing weight": (having(w=pl.when(NUMBER > 3).then(1.0)), role("w", "weight"), 2,
        "the first is missing in row 0"),
    "infinite weight": (having(w=pl.lit(float("inf"))), role("w", "weight"), 2, "first is inf"),
    "weight of zero": (having(w=pl.lit(0.0)), role("w", "weight"), 2, "zero in all"),
    "weight of text": (having(w=pl.lit("a")), role("w", "weight"), 2, "must be a number"),
    "group with gaps": (having(g=pl.when(NUMBER > 9).then(NUMBER // 5)), role("g", "group"), 2,
        "is empty in 10 rows"),
    "time all equal": (having(t=pl.lit("2020-01-01")), role("t", "time"), 3, "the same time"),
    "unknown column": (TABLE, role("incme", "ignore"), 2, "did you mean 'income'"),
    "group without column": (TABLE, {"split": {"method": "group"}}, 2, "needs `group`"),
    "time without column": (TABLE, {"split": {"method": "time"}}, 2, "needs `time`"),
    "unknown positive": (TABLE, {"positive": "maybe"}, 2, "not among the labels"),
    "regression of words": (TABLE, {"task": "regression"}, 2, "Regression needs a target of num"),
    "unknown metric": (TABLE, {"objective": {"metric": "aucc"}}, 2, "did you mean 'auc'"),
    "metric of another task": (TABLE, {"objective": {"metric": "rmse"}}, 2, "rmse is a metric of"),
    "unknown finding": (TABLE, {"clean": {"outlier": "off"}}, 2, "did you mean `outliers`"),
    "text as number": (TABLE, {"columns": {"city": {"type": "number"}}}, 2, "cannot be of type"),
    "store is a file": (TABLE, {"store": "d.csv"}, 5, "is a file, not a folder"),
    "too many folds": (TABLE, {"split": {"folds": 50}}, 3, "50 folds need at least 50"),
    "ledger is no URL": (TABLE, {"ledger": "foo"}, 2, "needs a database URL"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_refused_table(name: str, call: Call, here: Path) -> None:
    """The message names what is wrong, no release stands there, and the data are as they were."""
    frame, settings, code, text = TABLES[name]
    write_line(here, frame, **settings)
    before = {path: path.read_bytes() for path in here.iterdir()}
    call("run").refuses(code, text)
    assert not list(here.glob(".loopline/artifacts/release/*/*"))
    assert {path: path.read_bytes() for path in before} == before


ACCEPTED = {
    "binary column": having(b=pl.lit(b"ab")),
    "truth values": having(bought=pl.col("bought") == "yes"),
    "0 and 1 as floats": having(bought=(pl.col("bought") == "yes").cast(pl.Float64)),
    "infinite cells": having(x=pl.when(NUMBER > 2).then("x").otherwise(float("inf"))),
    "an empty column": having(e=pl.lit(None, dtype=pl.String)),
    "numbers of 30 digits": having(h=pl.Series([str(10**29 + n * 7) for n in range(ROWS)])),
    "only dates": TABLE.select(
        "bought", born=pl.date(1940, 1, 1) + pl.duration(days=(NUMBER * 7) % ROWS)
    ),
    "names like ours": TABLE.rename({"x": "prediction", "income": "row", "city": "fold"}),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_table_runs(name: str, call: Call, here: Path) -> None:
    """Odd but honest tables go through the whole line, and predict."""
    write_line(here, ACCEPTED[name])
    answer = call("run", "--json")
    assert answer.code == 0, answer.message
    source = next(path for path in here.iterdir() if path.stem == "d")
    assert call("predict", "latest", source, "-o", "p.csv").code == 0


NAMES = ["a...", 'naïve "x", 😀\nline', "it's: [a] {b} #c", " lead", "\x07bell", "yes", "x" * 1500]


def test_init_writes_valid_yaml_for_any_name(call: Call, here: Path) -> None:
    """Quotes, emoji, line breaks and endless names in columns and labels survive `init`."""
    columns = {name: np.random.default_rng(n).normal(size=ROWS) for n, name in enumerate(NAMES)}
    target = 'goal: "é"\n?'
    labels = ['ja, "so"\n😀' if n % 3 else "n'ein: {x}" for n in range(ROWS)]
    pl.DataFrame({**columns, target: labels}).write_csv("d.csv")
    assert call("init", "d.csv", "--target", target).code == 0
    answer = call("run", "--set", "models=baseline", "--json")
    assert answer.code == 0, answer.message
    assert answer.json["target"] == target


def test_all_problems_of_a_file_at_once(call: Call, here: Path) -> None:
    """Unknown keys with their nearest right name, wrong values and `--set` faults come together."""
    Path("loopline.yaml").write_text(
        "data: {sorce: d.csv}\ntargt: y\nmodels: [lightgmb]\nsplit: {folds: 1}\nseed: -1\n"
    )
    answer = call("run", "--set", "nonsense", "--set", "store=''", "--json")
    answer.refuses(2, "Did you mean `source`?", "line 2: `targt`", "`seed` must be >= 0",
                   "lightgbm", "`split.folds` must be >= 2", "`--set` takes key=value")  # fmt: skip
    assert len(answer.json["error"]["problems"]) >= 6
    assert not Path(".loopline").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data: " + "[" * 3000, "nested too deeply"),
        ("data: {source: d}\ntarget: y\nbudget_seconds: .inf\n", "must be a finite number"),
        ("", "a settings file is a mapping"),
        ("- a\n", "a settings file is a mapping"),
        ("data:\n\tsource: x\n", "line 2: this is not valid YAML"),
        ("target: a\ntarget: b\n", "line 2: `target` stands twice"),
        ("a: !!python/object:os.system x\n", "not valid YAML"),
        ("data: {source: d.csv}\ntarget: y\nstore: ''\n", "`store` must not be empty"),
        ("data: {source: d.csv}\ntarget: 5\n", "`target` must be text"),
        ("data: {source: '${NOT_SET}/d.csv'}\ntarget: y\n", "NOT_SET, which is not set"),
    ],
)
def test_bad_yaml(text: str, told: str, call: Call, here: Path) -> None:
    """A settings file that cannot be used is told with its line and rule."""
    Path("loopline.yaml").write_text(text)
    call("run").refuses(2, told)


def _new(*columns: Any, **more: Any) -> pl.DataFrame:
    return make_table(12, seed=5).drop("bought").select(*columns, **more)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (_new("income", "city").write_csv(), "Column 'x' (a number) is absent; add it"),
        (_new("income", "city", x=pl.lit("abc")).write_csv(), "'abc' in data row 1 (line 2)"),
        ("", "new.csv is empty (0 bytes)"),
        ("x,income,city\n", "but no rows"),
    ],
    ids=["column gone", "type changed", "empty file", "header only"],
)
def test_predict_refuses_rows(content: str, told: str, call: Call, copied: Path) -> None:
    """Rows that do not fit are refused with the column, and no prediction file is begun."""
    Path("new.csv").write_text(content)
    call("predict", "latest", "new.csv", "-o", "p.csv").refuses(2, told)
    assert not Path("p.csv").exists()


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("p.xls", "must end in one of .csv"),
        ("p", "got no ending"),
        ("folder.csv", "it is a folder"),
        ("d.csv/p.csv", "'d.csv' is a file, not a folder"),
        ("new.csv", "is the table to predict"),
    ],
)
def test_predict_refuses_outputs(output: str, told: str, call: Call, copied: Path) -> None:
    """An output that cannot be written, or would destroy the input, is refused before any work."""
    Path("folder.csv").mkdir()
    before = Path("new.csv").read_bytes()
    call("predict", "latest", "new.csv", "-o", output, "--json").refuses(2, told)
    assert Path("new.csv").read_bytes() == before
    assert not [path for path in copied.iterdir() if path.name.startswith(".loopline-")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["init", "d.csv", "--target", "bought"], "--force to replace"),
        (["init", "d.csv", "--target", "bought", "-o", "d.csv", "--force"], "is the data itself"),
        (["init", "d.csv", "--target", "bought", "-o", "folder", "--force"], "it is a folder"),
        (["init", "d.csv", "--target", "bought", "--test", "t.csv", "-o", "z.yaml"], "'t.csv'"),
        (["init", "d.csv"], "Missing option '--target'"),
        (["schema", "-o", "folder"], "it is a folder"),
        (["schema", "-o", "d.csv/x"], "is a file, not a folder"),
        (["report", "-o", "folder"], "it is a folder"),
        (["report", "nope"], "There is no run 'nope'"),
        (["demo", "--folder", "d.csv"], "is a file, not a folder"),
        (["run", "x.yaml"], "There is no settings file 'x.yaml'"),
        (["rum"], "Did you mean 'run'"),
        (["predict", "", "new.csv", "-o", "p.csv"], "names nothing"),
        (["verify", ""], "names nothing"),
        (["lineage", "release-"], "names nothing"),
        (["predict", "nope", "new.csv", "-o", "p.csv"], "There is no release 'nope'"),
        (["data", "show", "dd.csv"], "did you mean 'd.csv'"),
        (["data", "diff", "d.csv", "new.csv", "--key", "zz"], "'zz' is not in the first table"),
        (["evaluate", "latest", "new.csv"], "needs the target column 'bought'"),
        (["gc", "--keep", "-1"], "--keep"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_wrong_arguments(arguments: list[str], told: str, call: Call, copied: Path) -> None:
    """A wrong argument gives exit code 2 and one JSON object; the files stay as they were."""
    Path("folder").mkdir()
    names = {path.name for path in copied.iterdir()}
    answer = call(*arguments, "--json")
    answer.refuses(2, told)
    assert set(answer.json["error"]) >= {"type", "message", "exit_code"}
    assert {path.name for path in copied.iterdir()} == names


def test_training_rows_are_not_scored(call: Call, in_project: Path) -> None:
    """Scoring known rows is refused with the code for scores nobody should believe."""
    call("evaluate", "latest", "d.csv", "--json").refuses(3, "rows stand among the rows")


def test_unknown_label_is_named(call: Call, copied: Path) -> None:
    """A label that training did not know is told with its row."""
    make_table(9, seed=8).with_columns(bought=pl.lit("perhaps")).write_csv("l.csv")
    call("evaluate", "latest", "l.csv").refuses(2, "'perhaps' (row 0)")


@pytest.mark.parametrize(
    "command", ["runs", "releases", "verify", "lineage", "report", "gc", "reproduce"]
)
def test_no_store_here(command: str, call: Call, here: Path) -> None:
    """In an empty folder each command says that there is no store, and makes none."""
    call(command, "--json").refuses(2, "There is no store", "`loopline run` makes one")
    assert not list(here.iterdir())


def test_flipped_byte_is_found(call: Call, copied: Path) -> None:
    """One changed bit is damage: verify and predict refuse with 4 and name the file."""
    file = next(copied.glob(".loopline/artifacts/release/**/release.json"))
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(damaged)
    call("verify", "--json").refuses(4, "release.json")
    call("predict", "latest", "new.csv", "-o", "p.csv").refuses(4, "release.json")
    assert not Path("p.csv").exists()


def test_vanished_artifact_is_told(call: Call, copied: Path) -> None:
    """A part of the lineage deleted by hand is named as not proved; the release still predicts."""
    manifest = next(copied.glob(".loopline/artifacts/choice/**/manifest.json"))
    manifest.unlink()
    answer = call("verify")
    assert (answer.code, "not proved" in answer.out) == (0, True), answer.message
    assert call("predict", "latest", "new.csv", "-o", "p.csv").code == 0


@pytest.mark.parametrize("content", [b"\0" * 8192, b"hello" * 99], ids=["zeros", "junk"])
def test_damaged_ledger(content: bytes, call: Call, copied: Path) -> None:
    """A ledger that is no database is damage, told with the way out."""
    for file in copied.glob(".loopline/ledger.db*"):
        file.unlink()
    Path(".loopline/ledger.db").write_bytes(content)
    call("runs", "--json").refuses(4, "ledger.db is damaged", "Bring it back from a copy")


def test_lost_ledger_is_no_lost_work(call: Call, copied: Path) -> None:
    """Without its ledger a line finds every stage again and gives the same release."""
    before = call("releases", "--json").json[0]["release"]
    for file in copied.glob(".loopline/ledger.db*"):
        file.unlink()
    assert call("run", "--json").json["release"] == before
    with sqlite3.connect(".loopline/ledger.db") as ledger:
        assert ledger.execute("pragma integrity_check").fetchone() == ("ok",)
    ledger.close()


def test_interrupt_is_told_and_continues(
    call: Call, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle gives 130 and one JSON object; the same command goes on to the end."""

    def stop(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("loopline.line.choosing.choice", stop)
        call("run", "--set", "seed=3", "--json").refuses(130, "run the same command to go on")
    assert "unfinished" in call("runs").out
    again = call("run", "--set", "seed=3", "--json")
    assert again.code == 0, again.message
    assert sum(stage["found"] for stage in again.json["stages"]) > 5


def test_full_disk_under_the_answer(monkeypatch: pytest.MonkeyPatch, copied: Path) -> None:
    """When even stdout cannot be written, the error goes to stderr with code 5, no traceback."""
    import io
    import sys

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    errors = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", errors)
    from loopline.cli.app import app

    assert guarded(app, ["data", "show", "d.csv", "--json"]) == 5
    assert "disk is full" in errors.getvalue()
    assert "Traceback" not in errors.getvalue()


def test_every_error_is_one_json_object(call: Call, here: Path) -> None:
    """An error with --json is one line of JSON with type, message and exit code."""
    answer = call("data", "show", "none.csv", "--json")
    error = json.loads(answer.out)["error"]
    assert error == {"type": "NotFoundError", "message": error["message"], "exit_code": 2}
    assert answer.err == ""
