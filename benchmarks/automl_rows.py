"""The rows of `automl.py`: six fixed public tasks and five more, as plain tables and facts.

Imports numpy and pandas alone, so that it runs in the environments of the rivals too. The six come
from the folder of task definitions (`LOOPLINE_TASKS`); the five are cut here by rule, from the
folder of public data (`LOOPLINE_DATA`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
TASKS = Path(os.environ.get("LOOPLINE_TASKS", ROOT.parent / "shared/tasks"))
DATA = Path(os.environ.get("LOOPLINE_DATA", ROOT.parent / "shared/data"))


@dataclass(frozen=True)
class Facts:
    """What a system is told of a task.

    Args:
        name: the task.
        target: the column to predict.
        kind: "binary" or "regression".
        metric: "auc", "rmse" or "mae".
        group: a column whose values never stand on both sides.
        time: a column by which the test rows are the later ones.
        hidden: structure columns that are no features.
        unit: the column whose values are resampled for intervals ("" for single rows).
    """

    name: str
    target: str
    kind: str
    metric: str
    group: str = ""
    time: str = ""
    hidden: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class Rows:
    """A task with its tables; rows are in the order of the files."""

    facts: Facts
    train: pd.DataFrame = field(repr=False)
    test: pd.DataFrame = field(repr=False)


def names() -> list[str]:
    """All eleven tasks."""
    return [*_fixed().names(), *_OWN]


def load(name: str) -> Rows:
    """A task's tables."""
    if name in _OWN:
        return _OWN[name]()
    task = _fixed().load(name)
    unit = task.group or ""
    if task.time:
        unit = "_day"
    facts = Facts(
        name, task.target, task.kind, task.metric, task.group or "", task.time or "",
        tuple(task.ignore), unit,
    )  # fmt: skip
    return Rows(facts, task.train, task.test)


def units(rows: Rows) -> np.ndarray[Any, Any] | None:
    """Which test rows count as one observation."""
    facts = rows.facts
    if facts.unit == "_day":
        days = pd.to_datetime(rows.test[facts.time]).dt.date
        return pd.factorize(days)[0]
    return pd.factorize(rows.test[facts.unit])[0] if facts.unit else None


def roles(facts: Facts) -> dict[str, dict[str, str]]:
    """What Loopline is told of the columns; a group that is hidden is known as a group."""
    found = {name: {"role": "ignore"} for name in facts.hidden}
    found |= {name: {"role": "group"} for name in [facts.group] if name}
    return found | {name: {"role": "time"} for name in [facts.time] if name}


def write(rows: Rows, folder: Path) -> None:
    """Tables as Parquet and facts as JSON, for a process of another environment."""
    rows.train.to_parquet(folder / "train.parquet", index=False)
    rows.test.to_parquet(folder / "test.parquet", index=False)
    (folder / "facts.json").write_text(json.dumps(asdict(rows.facts)), encoding="utf-8")


def read(folder: Path) -> Rows:
    """What `write` wrote."""
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Rows(
        Facts(**{**facts, "hidden": tuple(facts["hidden"])}),
        pd.read_parquet(folder / "train.parquet"),
        pd.read_parquet(folder / "test.parquet"),
    )


def _fixed() -> Any:
    file = TASKS / "tasks.py"
    if not file.is_file():
        sys.exit(f"There is no {file}; set LOOPLINE_TASKS to the folder of task definitions.")
    if "fixed_tasks" in sys.modules:
        return sys.modules["fixed_tasks"]
    spec = importlib.util.spec_from_file_location("fixed_tasks", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fixed_tasks"] = module
    spec.loader.exec_module(module)
    return module


def _divided(frame: pd.DataFrame, test: np.ndarray[Any, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    return frame[~test].reset_index(drop=True), frame[test].reset_index(drop=True)


def _drawn(num: int, share: float = 0.2) -> np.ndarray[Any, Any]:
    return np.random.RandomState(0).permutation(num) < share * num


def mammography() -> Rows:
    """Calcifications, 2.3 % positive; equal rows share a side."""
    columns = [f"x{place}" for place in range(6)]
    frame = pd.read_csv(DATA / "mammography/mammography.csv", names=[*columns, "cancer"])
    frame["cancer"] = frame["cancer"].str.strip("'").astype(int).eq(1).astype(int)
    frame["copies"] = frame.groupby(columns, sort=False).ngroup()
    test = _drawn(int(frame["copies"].max()) + 1)[frame["copies"].to_numpy()]
    facts = Facts(
        "mammography", "cancer", "binary", "auc", "copies", hidden=("copies",), unit="copies"
    )
    return Rows(facts, *_divided(frame, test))


def titanic() -> Rows:
    """891 passengers, without the columns that say the same as another or as the answer."""
    frame = pd.read_csv(DATA / "titanic/titanic.csv")
    frame = frame.drop(columns=["alive", "class", "who", "adult_male", "embark_town", "alone"])
    return Rows(Facts("titanic", "survived", "binary", "auc"), *_divided(frame, _drawn(len(frame))))


def concrete() -> Rows:
    """1,030 mixes of concrete; the same mix at several ages shares a side."""
    columns = ["cement", "slag", "ash", "water", "plasticizer", "coarse", "fine", "age", "strength"]
    place = DATA / "uci_splits_small/concrete/data.txt"
    frame = pd.read_csv(place, sep=r"\s+", names=columns)
    frame["mix"] = frame.groupby(columns[:7], sort=False).ngroup()
    test = _drawn(int(frame["mix"].max()) + 1)[frame["mix"].to_numpy()]
    facts = Facts("concrete", "strength", "regression", "rmse", "mix", hidden=("mix",), unit="mix")
    return Rows(facts, *_divided(frame, test))


def elec2() -> Rows:
    """Half hours of a power market; the last fifth of the time is the test."""
    frame = pd.read_csv(DATA / "elec2_drift/elec.csv")
    frame["half_hour"] = pd.Timestamp("1996-05-07") + pd.to_timedelta(
        30 * np.arange(len(frame)), unit="min"
    )
    test = np.arange(len(frame)) >= round(0.8 * len(frame))
    facts = Facts("elec2", "class", "binary", "auc", time="half_hour", unit="_day")
    return Rows(facts, *_divided(frame, test))


def ett() -> Rows:
    """The oil temperature of a transformer from its six loads; the last fifth is the test."""
    frame = pd.read_csv(DATA / "ett_h1/ETTh1.csv", parse_dates=["date"])
    test = np.arange(len(frame)) >= round(0.8 * len(frame))
    facts = Facts("ett", "OT", "regression", "rmse", time="date", unit="_day")
    return Rows(facts, *_divided(frame, test))


_OWN = {f.__name__: f for f in (mammography, titanic, concrete, elec2, ett)}
