"""Types, roles, the target and the task: what is proposed, why, and what is refused."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.inference import infer_columns, infer_schema, infer_task
from loopline.data.schema import Schema
from loopline.data.sources import TableFormat, read_table
from loopline.errors import DataError, SettingsError

N = 200
Y = [0, 1] * (N // 2)


def role(values, name="x", **more):
    """The proposed column for one column of N cells beside a target."""
    frame = pl.DataFrame({name: values, "y": Y, **more})
    return infer_schema(frame, target="y").named(name)


# ---- types --------------------------------------------------------------------------------------


def test_types():
    """Each kind of cell has its type; whole numbers with few values stay numbers."""
    frame = pl.DataFrame(
        {
            "number": [0.5] * (N - 1) + [1.5],
            "codes": [1, 2, 3, 4] * (N // 4),
            "boolean": [True, False] * (N // 2),
            "category": ["red", "blue"] * (N // 2),
            "text": [f"the order number {i} came late" for i in range(N)],
            "other": [[1]] * N,
            "y": Y,
        }
    )
    schema = infer_schema(frame, target="y")
    assert [column.type for column in schema.columns] == [
        *("number", "number", "boolean", "category", "text", "other", "category")
    ]
    assert "type: category if they are codes" in schema.named("codes").reason
    assert schema.named("other").role == "ignore"
    assert all(column.reason for column in schema.columns)


def test_empty_and_constant_columns_are_ignored():
    """A column without cells and one with a single value tell nothing."""
    assert role([None] * N).role == "ignore"
    assert role(["a"] * N).reason == "one value in every row ('a')"
    assert role(["a", None] * (N // 2)).role == "feature"


def test_constant_but_for_a_row_that_the_sample_misses(monkeypatch):
    """A column is constant only when all its rows are."""
    from loopline.data import inference

    monkeypatch.setattr(inference, "SAMPLE_ROWS", 10)
    assert role([1] * (N - 1) + [2]).role == "feature"


# ---- roles --------------------------------------------------------------------------------------


def test_ids():
    """A row counter, a distinct word a row, and distinct whole numbers named like an id are ids."""
    assert role(range(N)).role == "id"
    assert role([f"u{i}" for i in range(N)]).role == "id"
    numbers = [7 * i % 1009 for i in range(N)]
    assert role(numbers, "order_id").role == "id"
    assert role(numbers, "price").role == "feature"
    assert role([i / 7 for i in range(N)], "id").role == "feature"


def test_a_target_is_never_an_id():
    """Distinct whole numbers as target stay the target."""
    frame = pl.DataFrame({"a": [1.5, 2.5] * 50, "y": list(range(100))})
    assert infer_schema(frame, target="y").target == "y"


def test_group_by_structure():
    """A bare entity name is a group when other columns stay the same within it."""
    who = [i // 5 for i in range(N)]
    noise = list(np.random.default_rng(0).normal(size=N))
    steady = [g % 7 for g in who]
    assert role(who, "patient", age=steady, z=noise).role == "group"
    weak = role(who, "patient", z=noise)
    assert weak.role == "feature"
    assert "role: group if it does" in weak.reason


def test_group_by_name():
    """An entity's id that repeats is a group, in any spelling."""
    who = [i // 5 for i in range(N)]
    for name in ("patient_id", "customerID", "subject#", "userid", "Session Key"):
        assert role(who, name).role == "group", name
    for name in ("customer_type", "user_age", "households", "store"):
        assert role(who, name).role == "feature", name


def test_unique_customer_is_an_id_not_a_group():
    """Where every row has its own customer there is nothing to group."""
    assert role([f"c{i}" for i in range(N)], "customer_id").role == "id"


def test_time():
    """Dates in the order of the rows, or named like the time of the row, are the time."""
    days = [date(2020, 1, 1) + timedelta(days=i) for i in range(N)]
    mixed = days[::2] + days[1::2]
    assert role(days, "d").role == "time"
    assert role(mixed, "order_date").role == "time"
    assert role(mixed, "signup").role == "feature"
    assert role(days, "birth_date").role == "feature"
    assert role([1000 + 3 * i for i in range(N)], "timestamp").role == "time"
    assert role([37 * i % 1009 for i in range(N)], "timestamp").role == "feature"


def test_one_time_column_only():
    """Of two dates the one in row order is the time, the other one says so."""
    days = [date(2020, 1, 1) + timedelta(days=i) for i in range(N)]
    frame = pl.DataFrame({"date": days[::2] + days[1::2], "seen": days, "y": Y})
    schema = infer_schema(frame, target="y")
    assert schema.with_role("time") == ("seen",)
    assert "'seen' orders the rows already" in schema.named("date").reason


def test_weight():
    """Only unmistakable names are weights, and only when every cell can be one."""
    values = [1.0, 2.5] * (N // 2)
    assert role(values, "fnlwgt").role == "weight"
    assert role(values, "sample_weight").role == "weight"
    assert role(values, "weight").role == "feature"
    assert role(values, "curb-weight").role == "feature"
    assert role([-1.0, 2.5] * (N // 2), "sample_weight").role == "feature"


# ---- target and task ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b", "a"], "binary"),
        (["a", "b", "c"], "multiclass"),
        ([True, False, True], "binary"),
        ([0.0, 1.0, 1.0], "binary"),
        ([0, 1, 2], "multiclass"),
        ([1, 2, 3, 4], "multiclass"),
        ([3, 4, 5, 6, 7, 8, 9], "regression"),
        ([0, 2, 5], "regression"),
        (list(range(30)), "regression"),
        ([0.1, 0.2, 0.3], "regression"),
        ([1.0, 2.0, 3.0], "multiclass"),
    ],
)
def test_task(values, task):
    """The rules that `loopline.data.targets` states."""
    assert infer_task(pl.Series("y", values))[0] == task


def test_a_count_is_regression():
    """A name that says "count" makes few whole numbers a count."""
    assert infer_task(pl.Series("num_visits", [0, 1, 2]))[0] == "regression"
    assert infer_task(pl.Series("country", [0, 1, 2]))[0] == "multiclass"


@pytest.mark.parametrize(
    ("labels", "last"),
    [
        (["yes", "no"], "yes"),
        (["Y", "N", "Y"], "Y"),
        ([">50K", "<=50K"], ">50K"),
        ([">50K.", "<=50K.", ">50K."], ">50K."),
        (["spam", "ham"], "spam"),
        (["good", "bad"], "bad"),
        (["smoker", "non-smoker"], "smoker"),
        (["b", "a", "b"], "a"),
        ([1, 0], 1),
        ([-1, 1], 1),
        ([True, False], True),
    ],
)
def test_class_of_interest(labels, last):
    """The label that reads like an outcome stands last, and why is told."""
    frame = pl.DataFrame({"a": [float(i) for i in range(len(labels))], "y": labels})
    schema = infer_schema(frame, target="y")
    assert schema.classes[-1] == last
    assert "is the class of interest" in schema.named("y").reason


def test_given_positive_class():
    """The given class stands last; a label that is not there is refused with those that are."""
    frame = pl.DataFrame({"a": [0.5, 1.5, 2.5], "y": ["no", "yes", "no"]})
    assert infer_schema(frame, target="y", positive="no").classes == ("yes", "no")
    with pytest.raises(DataError, match="'nein' is not among the labels of 'y': 'no', 'yes'"):
        infer_schema(frame, target="y", positive="nein")


def test_single_row_classes_are_remarked():
    """A class with one row is allowed, and told."""
    frame = pl.DataFrame({"a": [0.5, 1.5, 2.5, 3.5], "y": ["a", "b", "b", "c"]})
    assert (
        "2 of 3 classes have a single row ('a', 'c')"
        in infer_schema(frame, target="y").named("y").reason
    )


@pytest.mark.parametrize(
    ("y", "task", "said"),
    [
        ([None, None], None, "has no label"),
        ([1, None, 0, 1], None, r"missing in 1 of 4 rows \(counted from 0: 1\).*drop_nulls"),
        ([1, 1], None, "one value only"),
        (["a", "a"], "binary", "one class only"),
        (["a", "b", "c"], "binary", "needs 2 classes, 'y' has 3"),
        (["a", "b"], "regression", "needs a target of numbers"),
        ([1.5, float("inf"), 2.5], None, r"infinite in 1 rows \(counted from 0: 1\)"),
        ([str(i) for i in range(1001)], None, "at most 1,000 classes"),
        ([date(2020, 1, 1), date(2020, 1, 2)], None, "of type Date"),
    ],
)
def test_target_refusals(y, task, said):
    """A target that cannot be learnt is refused with rows and reason."""
    frame = pl.DataFrame({"a": [float(i) for i in range(len(y))], "y": y})
    with pytest.raises(DataError, match=said):
        infer_schema(frame, target="y", task=task)


def test_absent_target():
    """A mistyped target is answered with the near names."""
    with pytest.raises(DataError, match="no target column 'chrun'; did you mean 'Churn'"):
        infer_schema(pl.DataFrame({"Churn": [1]}), target="chrun")
    with pytest.raises(DataError, match="no rows"):
        infer_schema(pl.DataFrame({"y": []}, schema={"y": pl.Int64}), target="y")


# ---- overrides ----------------------------------------------------------------------------------

FRAME = pl.DataFrame(
    {
        "zone": [1, 2, 3, 4] * (N // 4),
        "name": ["a", "b"] * (N // 2),
        "patient_id": [i // 5 for i in range(N)],
        "y": Y,
    }
)


def test_overrides_rule():
    """What the settings say stands, with the reason that they said it."""
    schema = infer_schema(
        FRAME,
        target="y",
        overrides={
            "zone": {"type": "category", "missing": "constant", "fill": 0},
            "patient_id": {"role": "ignore"},
        },
    )
    assert schema.named("zone").type == "category"
    assert schema.named("zone").fill == 0
    assert schema.named("patient_id").role == "ignore"
    assert schema.named("patient_id").reason == "set under `columns`: role: ignore"


def test_what_the_proposal_says_as_well_keeps_its_reason():
    """A settings file that repeats what was inferred does not put words into its owner's mouth."""
    inferred = infer_schema(FRAME, target="y").named("zone")
    schema = infer_schema(FRAME, target="y", overrides={"zone": {"type": inferred.type}})
    assert schema.named("zone").reason == inferred.reason


def test_a_given_group_keeps_others_from_being_proposed():
    """With a group given, no other column is proposed as one."""
    schema = infer_schema(FRAME, target="y", overrides={"name": {"role": "group"}})
    assert schema.with_role("group") == ("name",)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"zon": {"role": "id"}}, "no column 'zon'; did you mean 'zone'"),
        ({"zone": {"rolle": "id"}}, "no setting 'rolle'"),
        ({"zone": {"role": "grp"}}, "`role` must be one of"),
        ({"name": {"type": "number"}}, "cannot be of type 'number'"),
        ({"name": {"role": "weight"}}, "a weight must be a number"),
        ({"name": {"missing": "mean"}}, "is for numbers"),
        ({"zone": {"missing": "constant"}}, "needs `fill`"),
        ({"zone": {"fill": 1}}, "only with `missing: constant`"),
        ({"zone": {"missing": "constant", "fill": "x"}}, "must be a number"),
        ({"zone": {"role": "target"}}, "set by `target`"),
        ({"y": {"role": "feature"}}, "set by `target`"),
        ({"zone": {"role": "weight"}, "patient_id": {"role": "weight"}}, "Only one column"),
    ],
)
def test_override_refusals(overrides, said):
    """Each wrong override has its sentence."""
    with pytest.raises(SettingsError, match=said):
        infer_schema(FRAME, target="y", overrides=overrides)


def test_override_problems_are_told_together():
    """All wrong overrides are in one error."""
    with pytest.raises(SettingsError) as caught:
        infer_schema(FRAME, target="y", overrides={"q": {}, "zone": {"type": "word"}})
    assert len(caught.value.problems) == 2


# ---- properties ---------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-5, 5),
            st.none() | st.text("ab ", max_size=3),
            st.none() | st.floats(),
            st.booleans(),
        ),
        min_size=2,
        max_size=40,
    )
)
def test_any_table_has_a_schema(rows):
    """Columns of every content get a type, a role and a reason; the same table the same ones."""
    frame = pl.DataFrame(
        rows,
        schema={"i": pl.Int64, "s": pl.String, "f": pl.Float64, "b": pl.Boolean},
        orient="row",
    )
    columns = infer_columns(frame)
    assert [column.name for column in columns] == frame.columns
    assert all(column.reason for column in columns)
    assert columns == infer_columns(frame.clone())


def test_schema_is_plain_data():
    """A proposed schema survives its own plain form."""
    schema = infer_schema(FRAME, target="y")
    assert Schema.from_dict(schema.to_dict()) == schema


# ---- real tables --------------------------------------------------------------------------------

ADULT = """
    age workclass fnlwgt education education-num marital-status occupation relationship race sex
    capital-gain capital-loss hours-per-week native-country income
"""


@pytest.mark.parametrize(
    ("folder", "file", "target", "task", "roles"),
    [
        ("adult", "adult.data", "income", "binary", {"weight": ("fnlwgt",)}),
        ("telco_churn", "Telco-Customer-Churn.csv", "Churn", "binary", {"id": ("customerID",)}),
        (
            "bike_sharing",
            "hour.csv",
            "cnt",
            "regression",
            {"id": ("instant",), "time": ("dteday",)},
        ),
        ("titanic", "titanic.csv", "survived", "binary", {}),
        ("wine_quality", "wine_quality.csv", "quality", "regression", {}),
        ("california_housing", "housing.csv", "median_house_value", "regression", {}),
        ("mammography", "mammography.csv", "column_7", "binary", {}),
        (
            *("parkinsons_telemonitoring", "parkinsons_updrs.csv", "total_UPDRS", "regression"),
            {"group": ("subject#",)},
        ),
        ("banking77", "train.csv", "category", "multiclass", {}),
        ("elec2_drift", "elec.csv", "class", "binary", {}),
        ("ett_h1", "ETTh1.csv", "OT", "regression", {"time": ("date",)}),
    ],
)
def test_real_tables(data_dir, folder, file, target, task, roles):
    """Every real table gets its task and exactly the roles that it has."""
    fmt = TableFormat(columns=tuple(ADULT.split())) if folder == "adult" else None
    schema = infer_schema(read_table(data_dir(folder) / file, format=fmt).frame, target=target)
    assert schema.task == task
    for name in ("weight", "id", "time", "group", "ignore"):
        assert schema.with_role(name) == roles.get(name, ()), name


def test_real_classes(data_dir):
    """The classes of interest: >50K, Yes, spam."""
    telco = read_table(data_dir("telco_churn") / "Telco-Customer-Churn.csv").frame
    assert infer_schema(telco, target="Churn").classes == ("No", "Yes")
    spam = read_table(data_dir("sms_spam") / "smsspamcollection.tsv").frame
    schema = infer_schema(spam, target="label")
    assert schema.classes == ("ham", "spam")
    assert schema.named("message").type == "text"
