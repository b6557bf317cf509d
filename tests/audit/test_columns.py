"""Columns that give the answer away are leaks, honestly strong ones are not."""

from __future__ import annotations

import gzip

import numpy as np
import polars as pl
import pytest

from loopline.audit.columns import column_findings
from loopline.audit.copies import is_earlier_label
from loopline.audit.order import neighbours_score
from loopline.audit.price import Pricing
from loopline.audit.skill import Skills, skill_of
from loopline.data.fingerprint import row_digests
from loopline.data.inference import infer_schema
from loopline.data.schema import Column, Schema
from loopline.splits.spec import SplitSettings
from loopline.splits.split import make_split
from loopline.testing.splitters import view_of

N = 2000
TEXT = ["quick", "brown", "fox", "jumps", "over", "lazy", "dog", "seven", "wizards", "boil", "tea"]


def noise(n=N, columns=5, seed=0):
    rng = np.random.default_rng(seed)
    return {f"n{i}": rng.normal(size=n) for i in range(columns)}


def labels(n=N, seed=1):
    """Two classes that three of the noise columns tell fairly well (AUC about 0.9)."""
    values = noise(n)
    rng = np.random.default_rng(seed)
    return (values["n0"] + values["n1"] - values["n2"] + rng.normal(size=n) > 0).astype(int)


def flipped(y, share, seed=2):
    return np.where(np.random.default_rng(seed).random(y.size) < share, 1 - y, y)


def audited(columns, y, *, extra=None, order=None, task=None, **roles):
    frame = pl.DataFrame({**columns, "y": y})
    schema = infer_schema(frame, target="y", task=task)
    for name, role in roles.items():
        schema = schema.changed(name, role=role)
    return column_findings(view_of(frame, schema, order=order), extra=extra)


def told(found, *severities):
    wanted = severities or ("leak", "warning")
    return [(each.check, each.severity, each.columns) for each in found if each.severity in wanted]


# --- leaks ---------------------------------------------------------------------------------------


def test_a_copy_with_two_in_a_hundred_wrong_is_a_leak_with_its_price():
    """The third AutoGluon probe: the column is caught, and the repaired score is the honest one."""
    y = labels()
    found = audited({**noise(), "said": flipped(y, 0.02)}, y)
    assert told(found) == [("noisy_copy", "leak", ("said",))]
    (finding,) = found
    assert finding.worth.claimed.value > 0.98
    assert finding.worth.repaired.low < 0.92 < finding.worth.claimed.low
    assert finding.remedy.settings == {"columns": {"said": {"role": "ignore"}}}
    assert "all other columns together reach AUC" in finding.sentence


def test_two_copies_do_not_hide_each_other():
    """Each is judged and priced with the other one gone."""
    y = labels()
    found = audited({**noise(), "a": flipped(y, 0.02), "b": flipped(y, 0.03, 5)}, y)
    assert told(found) == [("noisy_copy", "leak", ("a",)), ("noisy_copy", "leak", ("b",))]
    assert all(each.worth.difference.low > 0.03 for each in found)


def test_a_copy_with_one_in_ten_wrong_is_a_warning():
    """A test that is right on nine of ten may be honest; a person should look."""
    y = labels()
    found = audited({**noise(columns=2), "test": flipped(y, 0.09)}, y)
    assert told(found) == [("noisy_copy", "warning", ("test",))]


def test_a_copy_of_words_among_several_classes_is_a_leak():
    """Other words for three classes, one in fifty wrong."""
    rng = np.random.default_rng(0)
    y = rng.choice(["red", "green", "blue"], N)
    said = np.where(rng.random(N) < 0.02, "r", np.char.array(y.astype("U1")))
    found = audited({**noise(), "said": said}, y)
    assert told(found) == [("noisy_copy", "leak", ("said",))]


def test_a_number_that_decides_the_class_amid_noise_is_a_leak():
    """A threshold with no error, and nothing else comes near."""
    y = labels()
    found = audited({**noise(), "p": (2 * y - 1) * np.random.default_rng(3).random(N)}, y)
    assert told(found) == [("deciding_column", "leak", ("p",))]


def test_a_number_that_decides_the_class_in_company_is_a_note():
    """Where other columns part the classes as well, nothing stands out."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, N)
    columns = {f"m{i}": 6.0 * y + rng.normal(size=N) for i in range(4)}
    columns["best"] = 20.0 * y + rng.normal(size=N)
    assert told(audited(columns, y)) == []


def test_a_class_computed_from_two_numbers_is_a_leak():
    """Neither tells the class, their difference does."""
    y = labels()
    rng = np.random.default_rng(4)
    p = 50 * rng.normal(size=N)
    q = p + (2 * y - 1) * 10 * rng.random(N)
    (finding, *rest) = audited({**noise(), "p": p, "q": q}, y)
    assert (finding.check, finding.severity) == ("deciding_pair", "leak")
    assert finding.columns == ("p", "q")
    assert "'p' - 'q' parts the two classes" in finding.sentence
    assert told(rest) == []


def test_half_of_the_numbers_equal_to_the_target_is_told():
    """A column that is the target where it has been filled in so far."""
    rng = np.random.default_rng(0)
    y = rng.gamma(2.0, 10.0, N)
    said = np.where(rng.random(N) < 0.6, y, rng.gamma(2.0, 10.0, N))
    found = audited({**noise(), "said": said}, y)
    assert ("said",) in [each.columns for each in found if each.severity in ("leak", "warning")]


def test_a_copy_of_a_grade_with_wrong_cells_is_a_leak():
    """A target of seven values: agreement beyond chance tells a copy with 4 in 100 cells wrong."""
    rng = np.random.default_rng(7)
    values = noise()
    grade = np.clip(np.round(5 + values["n0"] + rng.normal(size=N)), 2, 8)
    wrong = rng.random(N) < 0.04
    said = np.where(wrong, rng.permutation(grade), grade)
    found = audited({**values, "said": said}, grade, task="regression")
    assert ("noisy_copy", "leak", ("said",)) in told(found)


def test_another_judges_grade_is_no_copy():
    """Two judges who agree on half of the grades: nothing is stopped."""
    rng = np.random.default_rng(7)
    values = noise()
    grade = np.clip(np.round(5 + values["n0"] + rng.normal(size=N)), 2, 8)
    other = np.clip(np.round(grade + 0.8 * rng.normal(size=N)), 2, 8)
    assert 0.4 < (other == grade).mean() < 0.7
    assert told(audited({**values, "other": other}, grade, task="regression"), "leak") == []


def test_a_number_that_follows_the_target_closely_is_a_warning():
    """Three in a hundred of a spread away from it: told, and not taken for the target."""
    rng = np.random.default_rng(7)
    y = rng.gamma(2.0, 10.0, N)
    said = y + 0.03 * y.std() * rng.normal(size=N)
    found = audited({**noise(), "said": said}, y)
    assert told(found) == [("deciding_column", "warning", ("said",))]


def half_of_a_score(share=0.6, seed=8):
    """A score of parts that no other column measures, and one part of it."""
    rng = np.random.default_rng(seed)
    part, rest = rng.gamma(4.0, 5.0, N), rng.gamma(4.0, 5.0 * (1 - share), N)
    return part, part + rest


def test_a_part_of_the_score_that_stands_quite_alone_is_told():
    """Half of the score, read at the same visit: a warning with its price, not a stop."""
    part, score = half_of_a_score()
    found = audited({**noise(), "part": part}, score)
    (finding,) = [each for each in found if each.columns == ("part",)]
    assert (finding.check, finding.severity) == ("strong_column", "warning")
    assert "a second reading of one instrument" in finding.sentence
    assert finding.worth.matters


def test_a_part_of_the_score_in_company_is_left_in_peace():
    """The same strength beside another column that measures the same thing: an honest feature."""
    part, score = half_of_a_score()
    rng = np.random.default_rng(7)
    company = part + 4.0 * rng.normal(size=N)
    assert told(audited({**noise(), "part": part, "company": company}, score)) == []


def test_a_price_goes_forward_where_the_split_does():
    """In a series whose label wanders, the score without a leak is that of the later rows."""
    rng = np.random.default_rng(0)
    state = np.cumsum(rng.normal(size=1_500)) / 5.0
    y = state + 0.2 * rng.normal(size=1_500)
    columns = {"drift": state + 0.5 * rng.normal(size=1_500), "x": rng.normal(size=1_500)}
    said = y + 0.001 * rng.normal(size=1_500)
    forward = audited({**columns, "said": said}, y, order=np.arange(1_500))
    dealt = audited({**columns, "said": said}, y)
    (first,), (second,) = ([each for each in found if each.columns == ("said",)]
                           for found in (forward, dealt))  # fmt: skip
    assert first.worth.repaired.value > 1.5 * second.worth.repaired.value


def test_a_column_filled_in_for_one_class_only_is_told():
    """A date of death: one in five of the dead have one, nobody else."""
    y = labels()
    some = np.random.default_rng(5).random(N) < 0.2
    found = audited(
        {**noise(), "when": [1.0 if a and b else None for a, b in zip(y, some, strict=True)]}, y
    )
    (finding,) = [each for each in found if each.check == "missing_tells"]
    assert finding.severity == "warning"
    assert "nearly all of class 1" in finding.sentence


def test_a_mask_that_nearly_decides_is_a_leak():
    """Filled in for 97 of 100 of one class and 1 of 100 of the other."""
    y = labels()
    rng = np.random.default_rng(6)
    filled = rng.random(N) < np.where(y == 1, 0.97, 0.01)
    values = [float(v) if f else None for v, f in zip(rng.normal(size=N), filled, strict=True)]
    found = audited({**noise(), "late": values}, y)
    assert any(each.severity == "leak" and each.columns == ("late",) for each in found)


def test_masks_that_tell_only_together_are_told():
    """The label is the parity of two empty cells: neither mask says a thing alone."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, N), rng.integers(0, 2, N)
    columns = {name: [None if bit else 1.0 * i for i, bit in enumerate(bits)]
               for name, bits in (("a", a), ("b", b))}  # fmt: skip
    found = audited({**noise(), **columns}, a ^ b)
    (finding,) = [each for each in found if each.check == "missing_tells"]
    assert (finding.severity, finding.columns) == ("warning", ("a", "b"))


@pytest.mark.parametrize("gone", ["empty", "always the same"])
def test_a_column_that_is_not_there_on_the_test_rows_is_told(gone):
    """Filled in for training only: a leak when it tells the label, else a warning."""
    y = labels()
    rng = np.random.default_rng(7)
    part = np.where(np.arange(N) % 4 == 0, "test", "train")
    test = part == "test"
    blank = None if gone == "empty" else 0.0
    frame = pl.DataFrame(
        {
            **noise(),
            "tells": [
                blank if t else v for v, t in zip(y + 0.7 * rng.normal(size=N), test, strict=True)
            ],
            "idle": [blank if t else v for v, t in zip(rng.normal(size=N), test, strict=True)],
            "part": part,
            "y": y,
        }
    )
    schema = infer_schema(frame, target="y").changed("part", role="ignore")
    digests = row_digests(frame)
    split = make_split(
        frame, schema, digests, SplitSettings("predefined", column="part", num_folds=0)
    )
    found = column_findings(
        split.train_view(frame, schema, digests), test=split.test_view(frame, schema, digests)
    )
    by_column = {each.columns: each for each in found if "not_when_serving" in each.facts}
    assert by_column["tells",].severity == "leak"
    assert by_column["idle",].severity == "warning"
    assert f"and {gone} on the test rows" in by_column["idle",].sentence


# --- what is no feature --------------------------------------------------------------------------


def test_a_table_sorted_by_class_is_told():
    """The row number alone gives the label; so do the id's number and the file's folder."""
    y = np.sort(labels())
    extra = pl.DataFrame(
        {
            "id": [f"case-{i:05d}" for i in range(N)],
            "path": [f"{'pos' if v else 'neg'}/{i * 7919 % N}.png" for i, v in enumerate(y)],
        }
    )
    found = audited(noise(), y, extra=extra)
    assert told(found) == [
        ("row_order", "warning", ()),
        ("id_tells", "warning", ("id",)),
        ("id_tells", "warning", ("path",)),
    ]
    assert "The folder in 'path'" in found[2].sentence


def test_shuffled_ids_tell_nothing():
    """Numbers, prefixes and lengths without a link to the label."""
    y = labels()
    extra = pl.DataFrame({"id": [f"{'AB'[i % 2]}{i * 7919 % 9973}" for i in range(N)]})
    assert audited(noise(), y, extra=extra) == []


def test_runs_by_hand():
    """Labels 0,1,0,1: no neighbours agree, half would by chance: -0.5 / sqrt(0.25 / 99)."""
    columns = (Column("x", "number"), Column("y", "category", "target"))
    frame = pl.DataFrame({"x": range(100), "y": [0, 1] * 50})
    view = view_of(frame, Schema(columns, "binary", (0, 1)))
    assert neighbours_score(view) == pytest.approx(-0.5 / np.sqrt(0.25 / 99))


def test_a_mark_in_texts_is_told():
    """One agency's mark stands in nearly all texts of a class."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 600)
    texts = [
        ("WASHINGTON (Reuters) - " if v and rng.random() < 0.98 else "") + " ".join(
            rng.choice(TEXT, 12)) for v in y
    ]  # fmt: skip
    found = audited({"text": texts}, y)
    (finding,) = [each for each in found if each.check == "tokens"]
    assert finding.severity == "warning"
    assert finding.facts["token"] in ("(reuters)", "washington")
    assert finding.facts["at_the_ends"] == 1.0
    assert len(finding.examples) == 5


# --- strong is not a leak ------------------------------------------------------------------------


def test_the_label_of_the_row_before_is_no_copy():
    """A slow label repeats itself: yesterday's is known today."""
    rng = np.random.default_rng(0)
    y = np.zeros(N, dtype=int)
    for i in range(1, N):
        y[i] = y[i - 1] if rng.random() < 0.98 else 1 - y[i - 1]
    columns = {**noise(), "yesterday": np.r_[0, y[:-1]]}
    assert told(audited(columns, y, order=np.arange(N)), "leak") == []
    assert told(audited(columns, y), "leak") == [("noisy_copy", "leak", ("yesterday",))]
    view = view_of(
        pl.DataFrame({**columns, "y": y}),
        infer_schema(pl.DataFrame({**columns, "y": y}), target="y"),
    )
    assert is_earlier_label(view.column("yesterday"), view, np.arange(N))
    assert not is_earlier_label(view.column("yesterday"), view, np.arange(N)[::-1].copy())


def test_columns_that_say_the_same_are_one_note():
    """Words, their numbers, and the words again."""
    rng = np.random.default_rng(0)
    level = rng.integers(0, 5, N)
    words = np.array(list("abcde"))[level]
    found = audited({**noise(), "level": level, "word": words, "again": words}, labels())
    assert [(each.severity, each.columns) for each in found] == [
        ("note", ("level", "word", "again"))
    ]
    assert found[0].remedy.settings["columns"] == {
        "word": {"role": "ignore"},
        "again": {"role": "ignore"},
    }


@pytest.mark.parametrize("seed", range(8))
def test_clean_tables_raise_no_alarm(seed):
    """Noise, categories, empty cells at random: no leak and no warning."""
    rng = np.random.default_rng(seed)
    n = 600
    columns = noise(n, 6, seed)
    columns["c"] = rng.choice(list("abcdefg"), n)
    columns["m"] = [None if rng.random() < 0.3 else float(v) for v in rng.normal(size=n)]
    signal = columns["n0"] * columns["n1"] + columns["n2"] + rng.normal(size=n)
    y = signal if seed % 2 else np.digitize(signal, [-1.0, 1.0])
    assert told(audited(columns, y)) == []


# --- bad input -----------------------------------------------------------------------------------


def test_constant_empty_and_tiny_tables_give_nothing_and_do_not_break():
    """One value, no value, fifty rows: a finding or nothing."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "one": [1.0] * 50,
            "none": pl.Series([None] * 50, dtype=pl.Float64),
            "x": rng.normal(size=50),
            "y": [0, 1] * 25,
        }
    )
    schema = infer_schema(frame, target="y")
    schema = schema.changed("one", role="feature").changed("none", role="feature")
    assert column_findings(view_of(frame, schema)) == []
    two = frame.head(2)
    assert column_findings(view_of(two, schema)) == []
    only = Schema((Column("x", "number"), Column("y", "category", "target")), "binary", (0, 1))
    same = frame.select("x", y=pl.lit(1))
    assert column_findings(view_of(same, only)) == []


def test_ten_thousand_classes_are_bounded():
    """No small model is fitted, no table of classes by values grows beyond memory."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10_000, 20_000)
    frame = pl.DataFrame(
        {**noise(20_000, 2), "c": rng.integers(0, 5_000, 20_000), "copy": y, "y": y}
    )
    types = {"c": "category"}
    columns = tuple(
        Column(name, types.get(name, "number"), "target" if name == "y" else "feature")
        for name in frame.columns
    )
    schema = Schema(columns, "multiclass", tuple(range(10_000)))
    found = column_findings(view_of(frame, schema), pricing=Pricing())
    assert all(each.worth is None for each in found)


def test_skill_of_a_coin_is_zero():
    """AUC 1/2 is no skill, and more wrong than right is none either."""
    y = np.tile([0, 1], 50)
    assert skill_of("binary", y, np.zeros(100)).value == 0.0
    assert skill_of("binary", y, 1.0 - y).value == 0.0


def test_a_value_seen_once_tells_nothing_of_its_own_row():
    """Every row its own code: cross-fitted, such a column is no better than chance."""
    y = np.random.default_rng(0).integers(0, 2, 400)
    frame = pl.DataFrame({"x": range(400), "y": y})
    skills = Skills(view_of(frame, infer_schema(frame, target="y")
                            .changed("x", role="feature")))  # fmt: skip
    assert skills.of_codes(np.arange(400)).value < 0.1


# --- real tables ---------------------------------------------------------------------------------


def real(path, target, drop=(), **options):
    frame = pl.read_csv(path, infer_schema_length=None, **options).drop(drop)
    schema = infer_schema(frame, target=target)
    others = [each.name for each in schema.columns if each.role in ("id", "ignore")]
    return column_findings(view_of(frame, schema), extra=frame.select(others))


def test_bike_sharing_parts_are_a_leak(data_dir):
    """Casual and registered riders add up to the count."""
    found = real(data_dir("bike_sharing") / "hour.csv", "cnt")
    leaks = [each for each in found if each.severity == "leak"]
    assert [each.columns for each in leaks] == [("casual", "registered")]
    assert leaks[0].worth.repaired.value > 5 * leaks[0].worth.claimed.value


def test_titanic_alive_is_a_leak(data_dir):
    """The label under another name, and nothing else."""
    found = real(data_dir("titanic") / "titanic.csv", "survived")
    assert told(found) == [("target_copy", "leak", ("alive",))]


def test_adult_education_is_a_note(data_dir):
    """Education and its number say the same; no alarm."""
    path = data_dir("adult") / "adult.data"
    frame = pl.read_csv(path, has_header=False, null_values=[" ?"]).drop_nulls("column_14")
    found = column_findings(view_of(frame, infer_schema(frame, target="column_14")))
    assert [(each.check, each.severity, each.columns) for each in found] == [
        ("same_columns", "note", ("column_3", "column_4"))
    ]


def test_parkinsons_motor_score_is_told(data_dir):
    """Half of the total score is the motor score."""
    path = data_dir("parkinsons_telemonitoring") / "parkinsons_updrs.csv"
    found = real(path, "total_UPDRS")
    assert ("motor_UPDRS",) in [each.columns for each in found]


@pytest.mark.slow
def test_imdb_rating_is_a_leak_and_the_order_is_told(data_dir):
    """The rating gives the label; the rows and the ids' folders stand class by class."""
    with gzip.open(data_dir("imdb_with_label_errors") / "imdb_train.csv.gz") as file:
        frame = pl.read_csv(file.read())
    rows = np.sort(np.random.default_rng(0).choice(frame.height, 4000, replace=False))
    frame = frame[rows]
    schema = infer_schema(frame, target="sentiment")
    found = column_findings(view_of(frame, schema), extra=frame.select("id"))
    assert told(found) == [
        ("deciding_column", "leak", ("rating_LEAK",)),
        ("row_order", "warning", ()),
        ("id_tells", "warning", ("id",)),
    ]


@pytest.mark.parametrize(
    ("folder", "file", "target", "drop"),
    [
        ("wine_quality", "wine_quality.csv", "quality", ()),
        ("california_housing", "housing.csv", "median_house_value", ()),
        ("telco_churn", "Telco-Customer-Churn.csv", "Churn", ()),
        ("elec2_drift", "elec.csv", "class", ()),
        ("titanic", "titanic.csv", "survived", ("alive",)),
        ("bike_sharing", "hour.csv", "cnt", ("casual", "registered")),
    ],
)
def test_clean_tables_have_no_leak(data_dir, folder, file, target, drop):
    """No alarm that would stop a run."""
    assert told(real(data_dir(folder) / file, target, drop), "leak") == []


def test_mammography_and_sms_have_no_leak(data_dir):
    """Tables without a header, and texts."""
    frame = pl.read_csv(data_dir("mammography") / "mammography.csv", has_header=False)
    found = column_findings(view_of(frame, infer_schema(frame, target=frame.columns[-1])))
    assert told(found, "leak") == []
    path = data_dir("sms_spam") / "smsspamcollection.tsv"
    assert told(real(path, "label", separator="\t", quote_char=None), "leak") == []


def test_columns_of_one_join_are_one_finding_with_the_price_of_all():
    """A join with rows for one class only fills several columns; leaving one out mends nothing."""
    y = labels()
    rng = np.random.default_rng(5)
    hit = (y == 1) & (rng.random(N) < 0.6)
    joined = {name: [float(v) if h else None for v, h in zip(rng.normal(size=N), hit, strict=True)]
              for name in ("paid", "days")}  # fmt: skip
    (finding,) = [
        each for each in audited({**noise(), **joined}, y) if each.check == "missing_tells"
    ]
    assert finding.columns == ("paid", "days")
    assert finding.worth is not None
    assert finding.worth.matters
