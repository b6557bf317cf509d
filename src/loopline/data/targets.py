"""What is predicted: the task, the classes in code order, and which class is the one of interest.

Every decision is a stated rule with a reason for the person who reads the settings file:

- text and truth values are classes; two distinct values make a binary task, more a multiclass one;
- a number with two distinct values is binary;
- whole numbers with at most 20 distinct values are class codes when they run without a gap from 0
  or 1 and the name does not say "count"; otherwise their order and distance mean something:
  regression (a wine's quality 3 to 9 is a grade, a digit 0 to 9 is a label);
- every other number is regression.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from loopline.data.schema import Label, Task, has_classes
from loopline.errors import DataError

MAX_CLASSES = 1_000
MAX_CODES = 20
_NUM_ROWS_TOLD = 8
_COUNT_NAMES = re.compile(r"(^|[^a-z])(cnt|count|counts|num|number|total|quantity|qty)([^a-z]|$)")


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_POSITIVE_WORDS = _listed(
    """
    yes y true t 1 pos positive churn churned fraud fraudulent default defaulted bad spam sick
    disease diseased ill malignant died dead death failed failure fail event case abnormal
    anomaly attack click clicked converted bought purchased survived approved won win left
    present high
    """
)
_NEGATIVE_WORDS = _listed(
    """
    no n false f 0 neg negative none normal ham benign healthy control stayed retained absent
    good legit legitimate genuine alive ok okay pass passed low lost
    """
)


def infer_task(target: pl.Series) -> tuple[Task, str]:
    """The task that a target column makes, with the reason.

    Args:
        target: the column, in canonical types; missing cells are passed over.

    Returns:
        `(task, reason)`; the reason is a phrase such as "2 values".

    Raises:
        DataError: no label, one value only, a type that cannot be predicted, too many classes.

    >>> infer_task(pl.Series("y", ["yes", "no", "no"]))
    ('binary', '2 values')
    >>> infer_task(pl.Series("quality", [3, 5, 6, 9]))[0]
    'regression'
    """
    dtype = target.dtype
    if isinstance(dtype, pl.List | pl.Array):
        raise DataError(
            f"The target {target.name!r} holds lists. If they are lists of labels, say `task: "
            "multilabel`."
        )
    if not (dtype.is_numeric() or dtype in (pl.Boolean(), pl.String())):
        raise DataError(
            f"The target {target.name!r} is of type {dtype}; a target is a number, text or a truth "
            "value. Derive one, for example the days between two dates."
        )
    labels = target.drop_nulls()
    if labels.is_empty():
        raise DataError(
            f"The target {target.name!r} has no label: all {len(target):,} are missing."
        )
    num_values = labels.n_unique()
    if num_values == 1:
        raise DataError(
            f"The target {target.name!r} has one value only ({labels[0]!r}), so there is nothing "
            "to learn. Take rows with both outcomes, or another target."
        )
    if num_values == 2:
        return "binary", "2 values"
    if not dtype.is_numeric():
        _refuse_many_classes(target.name, num_values)
        return "multiclass", f"{num_values:,} distinct labels"
    return _task_of_numbers(labels, num_values)


def _task_of_numbers(labels: pl.Series, num_values: int) -> tuple[Task, str]:
    if labels.dtype.is_float() and not _all_whole(labels):
        return "regression", f"a number with {num_values:,} distinct values"
    if num_values > MAX_CODES:
        return "regression", f"whole numbers with {num_values:,} distinct values"
    low, high = _bounds(labels)
    span = f"{num_values} whole numbers from {low:g} to {high:g}"
    if _COUNT_NAMES.search(labels.name.lower()):
        return "regression", f"{span}, and the name says it counts something"
    if low in (0, 1) and high - low + 1 == num_values:
        return "multiclass", f"{span} without a gap, read as class codes (task: regression if not)"
    return "regression", f"{span}, read as a grade or count (task: multiclass if they are labels)"


def _all_whole(labels: pl.Series) -> bool:
    return bool(((labels == labels.round(0)) & labels.is_finite()).all())


def _bounds(labels: pl.Series) -> tuple[float, float]:
    low, high = labels.min(), labels.max()
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    return low, high


def check_target(target: pl.Series, task: Task) -> str:
    """Refuse labels that cannot be learnt from; returns a remark worth reading, or "".

    Raises:
        DataError: missing labels, one class only, the wrong number or kind of values for `task`,
            infinities in a regression target.
    """
    name, num_rows = target.name, len(target)
    missing = target.null_count()
    if missing == num_rows:
        raise DataError(f"The target {name!r} has no label: all {num_rows:,} are missing.")
    if missing:
        raise DataError(
            f"The target {name!r} is missing in {missing:,} of {num_rows:,} rows "
            f"({_rows(target.is_null())}); a row without a label can neither train nor test. Drop "
            f"them at the source, or with `frame.drop_nulls({name!r})`."
        )
    if not has_classes(task):
        return _check_numbers(target)
    return _check_classes(target, task)


def _check_numbers(target: pl.Series) -> str:
    if not target.dtype.is_numeric():
        raise DataError(
            f"Regression needs a target of numbers, {target.name!r} is of type {target.dtype} "
            f"(first value {target[0]!r}). Convert it, or leave `task` to be inferred."
        )
    if target.dtype.is_float():
        infinite = target.is_infinite()
        if infinite.any():
            raise DataError(
                f"The regression target {target.name!r} is infinite in {infinite.sum():,} rows "
                f"({_rows(infinite)}); drop or correct them."
            )
    if target.n_unique() == 1:
        raise DataError(f"The target {target.name!r} has one value only ({target[0]!r}).")
    return ""


def _check_classes(target: pl.Series, task: Task) -> str:
    num_classes = target.n_unique()
    if num_classes == 1:
        raise DataError(
            f"The target {target.name!r} has one class only ({target[0]!r}), so there is nothing "
            "to learn. Take rows with both outcomes, or another target."
        )
    if task == "binary" and num_classes != 2:
        raise DataError(
            f"A binary task needs 2 classes, {target.name!r} has {num_classes:,}. Say `task: "
            "multiclass`, or join classes first."
        )
    _refuse_many_classes(target.name, num_classes)
    counts = target.value_counts(name="count").sort("count", target.name)
    single = counts.filter(pl.col("count") == 1)[target.name].to_list()
    if single:
        told = ", ".join(repr(label) for label in single[:5]) + (" …" if len(single) > 5 else "")
        return (
            f"{len(single):,} of {num_classes:,} classes have a single row ({told}): each can be "
            "in training or in test, not in both"
        )
    return ""


def _refuse_many_classes(name: str, num_classes: int) -> None:
    if num_classes > MAX_CLASSES:
        raise DataError(
            f"The target {name!r} has {num_classes:,} distinct labels; at most {MAX_CLASSES:,} "
            "classes are supported. Is it an id or a text? Take another target, or join labels."
        )


def class_order(
    target: pl.Series, task: Task, positive: Label | None
) -> tuple[tuple[Label, ...], str]:
    """The labels in code order and why the last one is the class of interest.

    Labels are sorted; for a binary task the class of interest is moved to the end: `positive` when
    given, else the one that reads like an outcome ("yes", ">50K", "spam"), else the larger number,
    else the rarer label.

    Raises:
        DataError: `positive` is not a label, or is given for a task that is not binary.

    >>> class_order(pl.Series("y", ["yes", "no", "no"]), "binary", None)
    (('no', 'yes'), "'yes' is the class of interest: it says yes")
    >>> class_order(pl.Series("y", ["up", "down", "down"]), "binary", "down")[0]
    ('up', 'down')
    """
    if not has_classes(task):
        if positive is not None:
            raise DataError(f"A positive class ({positive!r}) makes no sense for regression.")
        return (), ""
    classes: list[Label] = target.drop_nulls().unique().sort().to_list()
    if task == "multiclass":
        if positive is not None:
            raise DataError(
                f"A positive class ({positive!r}) is for binary tasks, {target.name!r} has "
                f"{len(classes)} classes."
            )
        return tuple(classes), ""
    if positive is not None:
        chosen, reason = _given(classes, positive, target.name), "set by `positive`"
    else:
        chosen, reason = _of_interest(classes, target)
    other = next(label for label in classes if label != chosen)
    return (other, chosen), f"{chosen!r} is the class of interest: {reason}"


def _given(classes: Sequence[Label], positive: Label, name: str) -> Label:
    for label in classes:
        if type(label) is type(positive) and label == positive:
            return label
    for label in classes:
        if str(label) == str(positive) or (
            isinstance(label, int | float)
            and isinstance(positive, int | float)
            and label == positive
        ):
            return label
    raise DataError(
        f"The positive class {positive!r} is not among the labels of {name!r}: "
        f"{', '.join(repr(label) for label in classes)}."
    )


def _of_interest(classes: Sequence[Label], target: pl.Series) -> tuple[Label, str]:
    low, high = classes
    if isinstance(low, bool):
        return high, "it is true"
    if isinstance(low, int | float):
        return high, "the larger number"
    first, second = str(low), str(high)
    for a, b, label in ((first, second, low), (second, first, high)):
        if a.strip().startswith(">") and b.strip().startswith("<"):
            return label, "it is the upper range"
    for a, b, label in ((first, second, low), (second, first, high)):
        if _word(a) in _POSITIVE_WORDS and _word(b) not in _POSITIVE_WORDS:
            return label, "it says yes" if _word(a) in {"yes", "y"} else "it names the event"
        if _word(b) in _NEGATIVE_WORDS and _word(a) not in _NEGATIVE_WORDS:
            return label, f"the other one, {b!r}, names the ordinary case"
        if re.fullmatch(rf"(not?|non|un)[\s_-]*{re.escape(a.strip().lower())}", b.strip().lower()):
            return label, f"the other one, {b!r}, is its negation"
    share = int((target == high).sum()) / len(target)
    if share > 0.5:
        return low, f"it is the rarer one ({1 - share:.0%} of rows)"
    if share < 0.5:
        return high, f"it is the rarer one ({share:.0%} of rows)"
    return high, "it stands last in sorted order"


def _word(label: str) -> str:
    return label.strip().strip(".!").lower()


def _rows(mask: pl.Series) -> str:
    rows = mask.arg_true().head(_NUM_ROWS_TOLD).to_list()
    more = ", …" if int(mask.sum()) > len(rows) else ""
    return f"counted from 0: {', '.join(str(row) for row in rows)}{more}"
