"""Splits of real tables keep duplicates, subjects and days apart."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopline.data.fingerprint import row_digests
from loopline.data.schema import Column, Schema
from loopline.splits.leaks import find_target_copies
from loopline.splits.propose import propose_split
from loopline.splits.spec import TEST, TRAIN
from loopline.splits.split import make_split
from loopline.splits.verify import verify


def read(path, target, task, classes=(), **roles):
    frame = pl.read_csv(path, infer_schema_length=None, try_parse_dates=True)
    columns = tuple(
        Column(
            name,
            "number" if dtype.is_numeric() else "datetime" if dtype.is_temporal() else "category",
            "target" if name == target else roles.get(name.strip("#"), "feature"),
        )
        for name, dtype in frame.schema.items()
    )
    return frame, Schema(columns, task, classes)


def split_of(frame, schema, **given):
    asked, _ = propose_split(schema, frame, given)
    return make_split(frame, schema, row_digests(frame), asked)


def test_no_wine_is_on_both_sides(data_dir):
    """1,177 duplicate rows of 6,497: 5,320 units, none of them on both sides of any border."""
    path = data_dir("wine_quality") / "wine_quality.csv"
    frame, schema = read(path, "quality", "multiclass", (3, 4, 5, 6, 7, 8, 9))
    split = split_of(frame, schema)
    assert split.certificate.num_units == 6497 - 1177
    features = frame.select(schema.features)
    train = features.filter(pl.Series(split.side == TRAIN))
    test = features.filter(pl.Series(split.side == TEST))
    assert train.join(test, on=list(schema.features), how="inner", nulls_equal=True).height == 0
    shares = split.certificate.class_shares
    assert max(abs(shares["test"][c] - shares["all"][c]) for c in shares["all"]) < 0.001
    verify(split, frame, schema)


def test_no_patient_is_on_both_sides(data_dir):
    """42 patients with about 140 recordings each: sides and folds share none."""
    path = data_dir("parkinsons_telemonitoring") / "parkinsons_updrs.csv"
    frame, schema = read(path, "total_UPDRS", "regression", subject="group")
    split = split_of(frame, schema)
    subject = frame["subject#"].to_numpy()
    assert not set(subject[split.side == TRAIN]) & set(subject[split.side == TEST])
    for fold in range(split.num_folds):
        train, valid = split.fold_views(fold, frame, schema)
        assert not set(subject[train.positions]) & set(subject[valid.positions])
    verify(split, frame, schema)


def test_bicycles_are_predicted_forward_and_their_sum_is_found(data_dir):
    """Day and hour order the rows; a day's gap; and casual + registered is the target."""
    path = data_dir("bike_sharing") / "hour.csv"
    frame, schema = read(path, "cnt", "regression", dteday="time", hr="time", instant="id")
    split = split_of(frame, schema, gap=86400.0)
    days = frame["dteday"].to_numpy()
    wait = days[split.side == TEST].min() - days[split.side == TRAIN].max()
    assert wait >= np.timedelta64(1, "D")
    found = find_target_copies(split.train_view(frame, schema))
    assert [(finding.kind, finding.columns) for finding in found] == [
        ("sum", ("casual", "registered"))
    ]
    assert found[0].share == 1.0
    verify(split, frame, schema)


@pytest.mark.parametrize(
    ("name", "file", "target", "task", "classes", "leaks"),
    [
        ("titanic", "titanic.csv", "survived", "binary", (0, 1), ["alive"]),
        ("california_housing", "housing.csv", "median_house_value", "regression", (), []),
        ("elec2_drift", "elec.csv", "class", "binary", (0, 1), []),
        ("telco_churn", "Telco-Customer-Churn.csv", "Churn", "binary", ("No", "Yes"), []),
        ("wine_quality", "wine_quality.csv", "quality", "regression", (), []),
    ],
)
def test_real_tables_raise_no_false_alarm(data_dir, name, file, target, task, classes, leaks):
    """Only the column that names the outcome is a leak; nothing honest is accused."""
    frame, schema = read(data_dir(name) / file, target, task, classes)
    found = find_target_copies(split_of(frame, schema).train_view(frame, schema))
    assert [column for f in found if f.severity == "leak" for column in f.columns] == leaks
