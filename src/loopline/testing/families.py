"""Conformance kit of model families: what every family must do, on tables made for the purpose.

Run every check over a family in a test of your own:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    @pytest.mark.parametrize("task", TASKS)
    def test_my_family_conforms(check, task, tmp_path):
        check(MyFamily(), task, tmp_path)

Each check raises AssertionError with what was promised and what came. `check_load_runs_no_code`
starts a Python process of its own; the rest takes milliseconds a family.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.language import bytes_column, with_bytes
from loopline.data.multilabel import label_matrix, told_labels
from loopline.data.schema import Column, ColumnType, Schema, Task, has_labels
from loopline.models.base import Family, FitContext, FittedModel, Floats, GivenUp
from loopline.splits.split import all_train
from loopline.splits.views import TrainView
from loopline.testing.images import make_image_table, odd_images, png, poor_images

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
CLASSES: dict[Task, tuple[str, ...]] = {
    "binary": ("no", "yes"),
    "multiclass": ("amber", "blue", "crimson"),
    "multilabel": ("amber", "blue", "crimson"),
    "regression": (),
    "language": (),
}

_TYPES = {
    "size": "number", "noise": "number", "flag": "boolean", "kind": "category", "note": "text",
    "picture": "image",
}  # fmt: skip
_ROW = {"size": 0.5, "noise": 1.0, "flag": True, "kind": "a"}
_TEXT_ONLY: frozenset[ColumnType] = frozenset({"text"})
_IMAGE_ONLY: frozenset[ColumnType] = frozenset({"image"})
_EVERY_PART: frozenset[ColumnType] = frozenset({"number", "text", "image"})
_TEXT_ROW = {"note": "a large amber thing"}
_BYTES = bytes_column("note")
_LOAD = """
import json
import sys
from pathlib import Path
import polars as pl
import importlib

module, name, folder, row = sys.argv[1:]
family = getattr(importlib.import_module(module), name)()
row = json.loads(row)
row = {name: bytes(cell) if isinstance(cell, list) else cell for name, cell in row.items()}
family.load(Path(folder)).predict_row(row)
seen = []
WATCHED = {"exec", "compile", "import", "marshal.loads", "pickle.find_class", "os.system",
           "os.exec", "os.posix_spawn", "subprocess.Popen", "ctypes.dlopen", "socket.connect"}
active = [True]
def hook(event, arguments):
    if active[0] and event in WATCHED:
        seen.append(f"{event} {str(arguments)[:200]}")
sys.addaudithook(hook)
model = family.load(Path(folder))
model.predict_row(row)
model.predict(pl.DataFrame([row] * 3))
active[0] = False
print("\\n".join(seen))
"""


def make_table(task: Task, rows: int = 120, seed: int = 0) -> pl.DataFrame:
    """A small table whose target depends on `size` and `kind`; `noise` and `flag` say nothing.

    One cell in ten of `size` and `kind` is missing.
    """
    rng = np.random.default_rng(seed)
    size, noise = rng.normal(size=rows), rng.normal(size=rows)
    kind = rng.integers(0, 4, rows)
    score = 2.0 * size + 1.5 * (kind == 1) - 1.0 * (kind == 2) + 0.3 * rng.normal(size=rows)
    names = np.array(["a", "b", "c", "d"])[kind]
    frame = pl.DataFrame(
        {
            "kind": [
                None if hidden else str(name)
                for name, hidden in zip(names, rng.random(rows) < 0.1, strict=True)
            ],
            "noise": noise,
            "flag": rng.random(rows) < 0.5,
            "size": np.where(rng.random(rows) < 0.1, np.nan, size),
        },
        schema_overrides={"kind": pl.String},
    ).with_columns(pl.col("size").fill_nan(None))
    return frame.with_columns(pl.Series("target", _labels(task, score)))


def make_text_table(task: Task, rows: int = 120, seed: int = 0) -> pl.DataFrame:
    """A small table with one text column, `note`, whose words make the target.

    One text in twenty is missing.
    """
    rng = np.random.default_rng(seed)
    sizes = np.array(["tiny", "small", "plain", "large", "huge"])
    things = np.array(["thing", "stone", "cup", "leaf"])
    code, thing = rng.integers(0, 5, rows), rng.integers(0, 4, rows)
    score = 1.5 * (code - 2.0) + 0.2 * rng.normal(size=rows)
    notes = [
        None if hidden else f"a {sizes[size]} {things[kind]}"
        for size, kind, hidden in zip(code, thing, rng.random(rows) < 0.05, strict=True)
    ]
    return pl.DataFrame({"note": pl.Series(notes, dtype=pl.String), "target": _labels(task, score)})


def make_mixed_table(task: Task, rows: int = 120, seed: int = 0) -> pl.DataFrame:
    """The columns of the three tables side by side, each about the one target.

    One row in twenty has none of the table's cells.
    """
    rng = np.random.default_rng(seed + 1)
    table = make_table(task, rows, seed)
    gone = pl.Series(rng.random(rows) < 0.05, dtype=pl.Boolean)
    cells = [pl.when(~gone).then(pl.col(name)).alias(name) for name in _ROW]
    score = rng.normal(size=rows)
    if task == "regression":
        score += table["target"].to_numpy()
    else:
        codes = np.array([CLASSES[task].index(label) for label in table["target"]])
        score += codes * 2.0 - len(CLASSES[task]) + 1.0
    sizes = np.array(["tiny", "small", "plain", "large", "huge"])
    code = np.clip(np.round(score + 2.0 + 0.5 * rng.normal(size=rows)), 0, 4).astype(np.int64)
    notes = [
        None if hidden else f"a {size} thing"
        for size, hidden in zip(sizes[code], rng.random(rows) < 0.05, strict=True)
    ]
    pictures = make_image_table(lambda drawn: drawn.tolist(), rows, seed)
    # the pictures come with scores of their own; they are dealt so that both rise together
    by_score = pictures.sort("target")["picture"]
    place = np.argsort(np.argsort(score, kind="stable"), kind="stable")
    return (
        table.with_columns(cells)
        .with_columns(pl.Series("note", notes, dtype=pl.String), by_score[place].alias("picture"))
        .select(pl.exclude("target"), "target")
    )


def make_documents(rows: int = 120, seed: int = 0) -> pl.DataFrame:
    """A small table of documents: a text column, `note`, with the number of its bytes."""
    table = make_text_table("regression", rows, seed).select(pl.col("note").fill_null("a cup"))
    return with_bytes(table, "note")


def table_for(family: Family, task: Task, rows: int = 120, seed: int = 0) -> pl.DataFrame:
    """The kit's table of the columns that a family reads."""
    if task == "language":
        return make_documents(rows, seed)
    if family.reads == _IMAGE_ONLY:
        return make_image_table(lambda score: _labels(task, score), rows, seed)
    if family.reads is not None and family.reads >= _EVERY_PART:
        return make_mixed_table(task, rows, seed)
    made = make_text_table if family.reads == _TEXT_ONLY else make_table
    return made(task, rows, seed)


def make_view(
    task: Task,
    frame: pl.DataFrame | None = None,
    *,
    weight: NDArray[np.float64] | None = None,
    order: NDArray[np.int64] | None = None,
    classes: tuple[str, ...] | None = None,
) -> TrainView:
    """A training view of a whole table such as `make_table` gives.

    Args:
        task: what is predicted.
        frame: any of the columns of `make_table`, with `target`.
        weight: sample weights, shape (rows,).
        order: rank in time, shape (rows,).
        classes: the labels in code order, where they are not the kit's.
    """
    frame = make_table(task) if frame is None else frame
    columns = [
        Column(name, _TYPES[name])  # type: ignore[arg-type]  # values of _TYPES are column types
        for name in frame.columns
        if name not in ("target", _BYTES)
    ]
    target = _BYTES if task == "language" else "target"
    columns.append(Column(target, "category" if has_labels(task) else "number", "target"))
    if weight is not None:
        frame = frame.with_columns(pl.Series("weight", weight))
        columns.append(Column("weight", "number", "weight"))
    digests = np.random.default_rng(7).integers(0, 2**63, (frame.height, 2)).astype(np.uint64)
    schema = Schema(tuple(columns), task, classes or CLASSES[task])
    return all_train(digests, order=order).train_view(frame, schema)


def quick(family: Family, task: Task) -> dict[str, Any]:
    """Parameters that keep a fit to milliseconds."""
    names = family.defaults(task, 120)
    if task == "language" and "layers" in names:
        shape = {"layers": 1, "width": 16, "head_width": 8, "length": 32, "vocabulary": 300}
        return {**shape, "epochs": 1.0}
    if "epochs" in names and names.get("tune") != "head":
        return {"epochs": 12.0}
    return {"rounds": 20} if "rounds" in names else {}


def fit(
    family: Family,
    task: Task,
    view: TrainView | None = None,
    valid: TrainView | None = None,
    **params: Any,
) -> FittedModel:
    """A quick fit on `view`, by default on the kit's table."""
    given = {**quick(family, task), **params}
    train = view or make_view(task, table_for(family, task))
    return family.fit(train, valid, given, FitContext(seed=5))


def check_shape(family: Family, task: Task, folder: Path) -> None:
    """Predictions have one row a row: a finite simplex over the classes, or finite values."""
    del folder
    model = fit(family, task)
    for rows in (0, 1, 40):
        _expect_valid(model.predict(table_for(family, task, rows, seed=1)), task, rows)
    assert (model.family, model.task) == (family.name, task), "the model must say what it is"


def check_parameters(family: Family, task: Task, folder: Path) -> None:
    """A model knows all its parameters, as plain data that the family accepts again."""
    del folder
    names = set(family.defaults(task, 120))
    model = fit(family, task, valid=make_view(task, table_for(family, task, seed=3)))
    assert set(model.params) == names, f"expected the parameters {names}, got {set(model.params)}"
    final = family.consolidate([model.params, model.params])
    _expect_valid(fit(family, task, **final).predict(table_for(family, task, 9)), task, 9)


def check_determinism(family: Family, task: Task, folder: Path) -> None:
    """Two fits with one seed save the same bytes."""
    valid = make_view(task, table_for(family, task, seed=3))
    saved = []
    for name in ("first", "second"):
        fit(family, task, valid=valid).save(folder / name)
        saved.append(_bytes_of(folder / name))
    assert saved[0].keys() == saved[1].keys(), "two equal fits saved different files"
    for name, content in saved[0].items():
        assert content == saved[1][name], f"two equal fits differ in {name}"


def check_save_and_load(family: Family, task: Task, folder: Path) -> None:
    """A loaded model predicts the same bits, and saves the same bytes again."""
    model = fit(family, task)
    model.save(folder / "saved")
    loaded = family.load(folder / "saved")
    table = table_for(family, task, 50, seed=1)
    np.testing.assert_array_equal(loaded.predict(table), model.predict(table))
    assert loaded.params == model.params, "the parameters changed on the way through the folder"
    assert loaded.size_bytes > 0, "a loaded model must know its size"
    loaded.save(folder / "again")
    assert _bytes_of(folder / "again") == _bytes_of(folder / "saved"), "saving again changed bytes"


def check_one_row(family: Family, task: Task, folder: Path) -> None:
    """`predict_row` equals `predict` on a table, row by row, to the family's tolerance."""
    del folder
    model = fit(family, task)
    table = table_for(family, task, 30, seed=1)
    expected = model.predict(table).reshape(30, -1)
    for row, values in zip(table.to_dicts(), expected, strict=True):
        np.testing.assert_allclose(
            model.predict_row(row), values, rtol=family.tolerance, atol=family.tolerance
        )


def check_blocks(family: Family, task: Task, folder: Path) -> None:
    """A row's prediction does not depend on the rows around it, to the family's tolerance."""
    del folder
    model = fit(family, task)
    table = table_for(family, task, 50, seed=1)
    parts = [model.predict(table[:17]), model.predict(table[17:])]
    np.testing.assert_allclose(
        np.concatenate(parts), model.predict(table), rtol=family.tolerance, atol=family.tolerance
    )


def check_weights(family: Family, task: Task, folder: Path) -> None:
    """Weights count: heavy rows pull; a common factor changes nothing; weight 2 is a row twice."""
    del folder
    table = table_for(family, task)
    if task == "regression":
        heavy = table["target"].to_numpy() > 1.0
    else:
        heavy = _with_label(table, task, CLASSES[task][-1]).to_numpy()
    weight = np.where(heavy, 4.0, 1.0)
    plain = _mean_answer(fit(family, task), table)
    pulled = fit(family, task, make_view(task, table, weight=weight))
    assert _mean_answer(pulled, table) > plain, "rows of larger weight did not count more"
    scaled = fit(family, task, make_view(task, table, weight=weight * 2.0**-30))
    np.testing.assert_array_equal(scaled.predict(table), pulled.predict(table))
    doubled = pl.concat([table, table.filter(pl.Series(heavy))])
    twice = fit(family, task, make_view(task, doubled))
    once = fit(family, task, make_view(task, table, weight=np.where(heavy, 2.0, 1.0)))
    far = np.abs(_mean_answer(once, table) - _mean_answer(twice, table))
    assert far < 0.1, f"weight 2 and a row twice are {far:.3f} apart in the mean prediction"


def check_zero_weight(family: Family, task: Task, folder: Path) -> None:
    """Rows of weight 0 may be there, even all the rows of a class."""
    del folder
    table = table_for(family, task)
    weight = np.ones(table.height)
    weight[:10] = 0.0
    _expect_valid(fit(family, task, make_view(task, table, weight=weight)).predict(table), task)
    if task == "multiclass":
        weight = (table["target"] != "blue").to_numpy().astype(np.float64)
        predicted = fit(family, task, make_view(task, table, weight=weight)).predict(table)
        _expect_valid(predicted, task)
        assert predicted[:, 1].max() < 0.2, "a class of weight 0 was predicted"


def check_class_weight(family: Family, task: Task, folder: Path) -> None:
    """`class_weight="balanced"` raises the probability of a rare class."""
    del folder
    if task == "regression":
        return
    table = table_for(family, task, 400)
    rare = table["target"] == CLASSES[task][-1]
    table = pl.concat([table.filter(~rare), table.filter(rare)[:15]])
    means = []
    for class_weight in (None, "balanced"):
        context = FitContext(seed=5, class_weight=class_weight)
        model = family.fit(make_view(task, table), None, quick(family, task), context)
        means.append(float(model.predict(table)[:, -1].mean()))
    assert means[1] > means[0] + 0.01, f"the mean probability of the rare class went {means}"


def check_class_order(family: Family, task: Task, folder: Path) -> None:
    """Column `i` of the probabilities is class `i` of the schema, also with a class absent."""
    del folder
    if task == "regression":
        return
    table = table_for(family, task, 200)
    for absent in (None, CLASSES[task][0]):
        part = table if absent is None else table.filter(~_with_label(table, task, absent))
        predicted = fit(family, task, make_view(task, part)).predict(part)
        _expect_valid(predicted, task)
        for code, label in enumerate(CLASSES[task]):
            share = float(_with_label(part, task, label).mean())  # type: ignore[arg-type]
            off = abs(float(predicted[:, code].mean()) - share)
            assert off < 0.15, f"class {label} is {off:.2f} off its share of {share:.2f}"


def check_unknown_cells(family: Family, task: Task, folder: Path) -> None:
    """Missing cells, infinities and categories never seen are predicted like any row."""
    del folder
    model = fit(family, task)
    table = table_for(family, task, 8)
    table = table.with_columns(_odd(table))
    predicted = model.predict(table)
    if task == "regression":
        assert np.isfinite(predicted).all(), "a prediction is not finite"
    else:
        _expect_valid(predicted, task)
    for row, values in zip(table.to_dicts(), predicted.reshape(8, -1), strict=True):
        np.testing.assert_allclose(
            model.predict_row(row), values, rtol=family.tolerance, atol=family.tolerance
        )


def check_poor_features(family: Family, task: Task, folder: Path) -> None:
    """A constant feature, one feature, features without information, an empty feature."""
    del folder
    table = table_for(family, task)
    cases = _poor(table)
    valid_rows = table_for(family, task, 40, seed=3)
    for name, frame in cases.items():
        try:
            valid = make_view(task, valid_rows.select(frame.columns))
            predicted = fit(family, task, make_view(task, frame), valid).predict(frame)
            _expect_valid(predicted, task)
        except AssertionError as error:
            raise AssertionError(f"with the feature table {name!r}: {error}") from error


def check_few_rows(family: Family, task: Task, folder: Path) -> None:
    """Twenty rows, three rows, and a target that never varies are enough for a model."""
    del folder
    table = table_for(family, task, 20)
    _expect_valid(fit(family, task, make_view(task, table)).predict(table), task)
    _expect_valid(fit(family, task, make_view(task, table[:3])).predict(table), task)
    same = table.with_columns(target=pl.lit(table["target"][0]))
    predicted = fit(family, task, make_view(task, same), make_view(task, same)).predict(table)
    _expect_valid(predicted, task)
    if task == "regression":
        np.testing.assert_allclose(predicted, same["target"][0], rtol=1e-6)
    elif task == "multilabel":
        has = label_matrix(same["target"], CLASSES[task]) == 1
        assert np.abs(predicted - has).max() < 0.1, "the labels that never vary were not predicted"
    else:
        code = CLASSES[task].index(same["target"][0])
        assert predicted[:, code].min() > 0.9, "the only class was not predicted"


def check_target_scale(family: Family, task: Task, folder: Path) -> None:
    """A regression target far from zero, or tiny, is learned as well as its standard form."""
    del folder
    if task != "regression":
        return
    table = table_for(family, task)
    standard = fit(family, task).predict(table)
    spread = float(table["target"].std())  # type: ignore[arg-type]  # a number
    for offset, scale in ((1.7e9, 1.0), (0.0, 1e-20), (0.0, 1e20)):
        moved = table.with_columns(target=pl.col("target") * scale + offset)
        predicted = (fit(family, task, make_view(task, moved)).predict(table) - offset) / scale
        off = float(np.abs(predicted - standard).max())
        assert off < 0.05 * spread, f"target × {scale:g} + {offset:g} moved predictions by {off}"


def check_contributions(family: Family, task: Task, folder: Path) -> None:
    """Contributions name raw features; with one constant they add up to the raw score."""
    del folder
    model = fit(family, task)
    table = table_for(family, task, 30, seed=1)
    parts = model.contributions(table)
    if parts is None:
        return
    assert set(parts) <= {"size", "noise", "flag", "kind"}, f"contributions name {set(parts)}"
    shape = (30, 3) if task in ("multiclass", "multilabel") else (30,)
    assert all(part.shape == shape for part in parts.values()), "wrong shape of contributions"
    mass = {name: float(np.abs(part - part.mean(axis=0)).sum()) for name, part in parts.items()}
    assert max(mass, key=lambda name: mass[name]) == "size", f"contributions weigh {mass}"
    rest = _raw_scores(model.predict(table), task) - np.sum(list(parts.values()), axis=0)
    if task == "multiclass":
        rest -= rest[:, :1]
    spread = np.ptp(rest, axis=0).max()
    assert spread < 1e-4, f"what contributions leave varies by {spread:.2g} between rows"


def check_importances(family: Family, task: Task, folder: Path) -> None:
    """Importances are shares, and the feature that makes the target has the largest."""
    del folder
    found = fit(family, task).importances()
    if found is None:
        return
    assert abs(sum(found.values()) - 1.0) < 1e-9, f"importances sum to {sum(found.values())}"
    assert max(found, key=lambda name: found[name]) == "size", f"importances are {found}"


def check_labels_apart(family: Family, task: Task, folder: Path) -> None:
    """Each label is learned for itself: labels in another order change nothing but the order.

    A label is named anew so that it stands first instead of last.
    """
    del folder
    if task != "multilabel":
        return
    table = table_for(family, task, 200)
    names = dict(zip(CLASSES[task], ("third", "second", "first"), strict=True))
    told = [
        json.dumps(sorted(names[label] for label in json.loads(cell))) for cell in table["target"]
    ]
    moved = table.with_columns(target=pl.Series(told))
    before = fit(family, task, make_view(task, table)).predict(table)
    view = make_view(task, moved, classes=("first", "second", "third"))
    after = fit(family, task, view).predict(table)
    far = float(np.abs(before - after[:, ::-1]).max())
    assert far < 1e-3, f"labels in another order moved predictions by {far:.2g}"


def check_rungs(family: Family, task: Task, folder: Path) -> None:
    """A fit that is looked at on its way is the same fit, and ends when a rung raises `GivenUp`."""
    train = make_view(task, table_for(family, task))
    valid = make_view(task, table_for(family, task, seed=3))
    heard: list[tuple[int, Floats]] = []

    def tell(number: int, predicted: Floats) -> None:
        heard.append((number, np.array(predicted)))

    def leave(number: int, predicted: Floats) -> None:
        raise GivenUp

    context, params = FitContext(seed=5), quick(family, task)
    family.fit(train, valid, params, context).save(folder / "alone")
    family.fit(train, valid, params, replace(context, rung=tell)).save(folder / "seen")
    assert _bytes_of(folder / "alone") == _bytes_of(folder / "seen"), "a rung changed the fit"
    if not family.has_rungs:
        assert not heard, "the family tells of rungs; `has_rungs` must say so"
        return
    numbers = [number for number, _ in heard]
    assert numbers == sorted(set(numbers)), f"rungs must rise, got {numbers}"
    shape = (valid.num_rows, *((len(CLASSES[task]),) if CLASSES[task] else ()))
    for _, predicted in heard:
        assert predicted.shape == shape, f"expected the shape {shape}, got {predicted.shape}"
        assert np.isfinite(predicted).all(), "a prediction is not finite"
    if heard:
        try:
            family.fit(train, valid, params, replace(context, rung=leave))
        except GivenUp:
            return
        raise AssertionError("the fit went on after a rung had raised `GivenUp`")


def check_load_runs_no_code(family: Family, task: Task, folder: Path) -> None:
    """Loading and predicting compiles, imports, unpickles and starts nothing.

    A first load warms up the library; a second is watched by an audit hook.
    """
    fit(family, task).save(folder / "model")
    kind = type(family)
    row = json.dumps(_plain_row(family, task))
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            _LOAD,
            kind.__module__,
            kind.__qualname__,
            str(folder / "model"),
            row,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert not result.stdout.strip(), f"loading did more than read data:\n{result.stdout}"
    kinds = {path.suffix for path in (folder / "model").rglob("*") if path.is_file()}
    assert not kinds & {".pkl", ".pickle", ".joblib", ".py"}, f"code files in the model: {kinds}"


Check = Callable[[Family, Task, Path], None]

CHECKS: tuple[Check, ...] = (
    check_shape,
    check_parameters,
    check_determinism,
    check_save_and_load,
    check_one_row,
    check_blocks,
    check_weights,
    check_zero_weight,
    check_class_weight,
    check_class_order,
    check_unknown_cells,
    check_poor_features,
    check_few_rows,
    check_target_scale,
    check_contributions,
    check_importances,
    check_rungs,
    check_load_runs_no_code,
)
"""Every check, in the order of what they rest on."""

LANGUAGE_CHECKS: tuple[Check, ...] = (
    check_shape,
    check_parameters,
    check_determinism,
    check_save_and_load,
    check_one_row,
    check_blocks,
    check_load_runs_no_code,
)
"""The checks of families that predict texts themselves, which have neither labels nor weights."""


MULTILABEL_CHECKS: tuple[Check, ...] = (
    check_shape,
    check_parameters,
    check_determinism,
    check_save_and_load,
    check_one_row,
    check_blocks,
    check_weights,
    check_zero_weight,
    check_class_order,
    check_labels_apart,
    check_unknown_cells,
    check_poor_features,
    check_few_rows,
    check_contributions,
    check_importances,
    check_rungs,
    check_load_runs_no_code,
)
"""The checks of families that give a row any of several labels."""


def _with_label(table: pl.DataFrame, task: Task, label: str) -> pl.Series:
    """Which rows have a label."""
    if task == "multilabel":
        return table["target"].str.contains(json.dumps(label), literal=True)
    return table["target"] == label


def _labels(task: Task, score: Floats) -> list[Any]:
    if task == "regression":
        labels: list[Any] = score.tolist()
        return labels
    if task == "multilabel":
        has = np.column_stack([score > -1.0, score > 1.0, np.abs(score) < 1.5])
        return [json.dumps(labels) for labels in told_labels(has, CLASSES[task])]
    cuts = [0.0] if task == "binary" else [-1.0, 1.0]
    return [CLASSES[task][code] for code in np.digitize(score, cuts)]


def _expect_valid(predicted: Floats, task: Task, rows: int | None = None) -> None:
    assert predicted.dtype == np.float64, f"predictions are {predicted.dtype}, not float64"
    count = predicted.shape[0] if rows is None else rows
    shape = (count, len(CLASSES[task])) if CLASSES[task] else (count,)
    assert predicted.shape == shape, f"expected the shape {shape}, got {predicted.shape}"
    assert np.isfinite(predicted).all(), "a prediction is not finite"
    if CLASSES[task]:
        assert (predicted >= 0).all(), "a probability is negative"
        assert (predicted <= 1).all(), "a probability is above 1"
        if task != "multilabel":
            np.testing.assert_allclose(predicted.sum(axis=1), 1.0, rtol=0, atol=1e-12)


def _mean_answer(model: FittedModel, table: pl.DataFrame) -> float:
    predicted = model.predict(table)
    return float(predicted.mean() if predicted.ndim == 1 else predicted[:, -1].mean())


def _raw_scores(predicted: Floats, task: Task) -> Floats:
    if task == "regression":
        return predicted
    logs: Floats = np.log(np.maximum(predicted, 1e-300))
    if task == "multilabel":
        odds: Floats = logs - np.log(np.maximum(1.0 - predicted, 1e-300))
        return odds
    return logs[:, 1] - logs[:, 0] if task == "binary" else logs


def _bytes_of(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _plain_row(family: Family, task: Task) -> dict[str, Any]:
    """A row of the kit's table, as JSON can hold it."""
    if family.reads == _IMAGE_ONLY:
        return {"picture": list(png(np.full((12, 12), 100)))}
    if family.reads is not None and family.reads >= _EVERY_PART:
        return {**_ROW, **_TEXT_ROW, "picture": list(png(np.full((12, 12), 100)))}
    texts = task == "language" or family.reads == _TEXT_ONLY
    return _TEXT_ROW if texts else _ROW


def _odd(table: pl.DataFrame) -> list[pl.Series]:
    if "picture" in table.columns:
        return odd_images()
    return _odd_texts() if "note" in table.columns else _odd_cells()


def _poor(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    if "picture" in table.columns:
        return poor_images(table)
    return _poor_texts(table) if "note" in table.columns else _poor_tables(table)


def _odd_cells() -> list[pl.Series]:
    return [
        pl.Series("size", [None, np.inf, -np.inf, np.nan, 1e300, -1e300, 0.0, 1e-300]),
        pl.Series("kind", ["never", None, "", "a", "never seen", "a", None, "b"]),
        pl.Series("flag", [None, True, None, False, True, None, False, True]),
    ]


def _odd_texts() -> list[pl.Series]:
    long = "a large stone " * 2_000
    odd = [
        None,
        "",
        "   \n",
        "never seen before",
        "[SEP] [PAD] </s>",
        "\U0001f600 \u0639",
        long,
        "a",
    ]
    return [pl.Series("note", odd)]


def _poor_tables(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(9)
    return {
        "constant": table.with_columns(size=pl.lit(1.0)),
        "all constant": table.select(
            pl.lit(3.5).alias("size"), pl.lit("a").alias("kind"), "target"
        ),
        "one": table.select("size", "target"),
        "one category": table.select("kind", "target"),
        "uninformative": table.select("noise", "flag", "target").with_columns(
            noise=pl.Series(rng.normal(size=table.height))
        ),
        "empty": table.with_columns(noise=pl.lit(None, dtype=pl.Float64)),
        "huge": table.with_columns(noise=pl.col("noise") * 1e150, size=pl.col("size") + 1e9),
        "copied": table.with_columns(noise=pl.col("size")),
    }


def _poor_texts(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {
        "constant": table.with_columns(note=pl.lit("a thing")),
        "mostly empty": table.with_columns(
            note=pl.Series(["a thing"] + [None] * (table.height - 1), dtype=pl.String)
        ),
        "one letter": table.with_columns(note=pl.col("note").str.slice(0, 1)),
    }
