"""Every metric by name: what it means, which tasks have it, what it needs, and its value.

A name may carry arguments: ``recall_at_precision=0.9``, ``pinball=0.1``, ``cost=1,5`` (the price
of a false positive, then of a false negative). `metric(name)` reads a name, and a wrong one is
answered with the nearest right one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loopline.data.schema import Task
from loopline.errors import DataError, SettingsError
from loopline.evaluate import formulas, label_formulas
from loopline.evaluate.formulas import Scored
from loopline.evaluate.rows import Rows

Need = Literal["probability", "label", "value"]

BINARY: frozenset[Task] = frozenset({"binary"})
CLASSES: frozenset[Task] = frozenset({"binary", "multiclass"})
LABELS: frozenset[Task] = frozenset({"multilabel"})
VALUES: frozenset[Task] = frozenset({"regression"})
LANGUAGE: frozenset[Task] = frozenset({"language"})
RETRIEVAL: frozenset[Task] = frozenset({"retrieval"})


@dataclass(frozen=True)
class Metric:
    """One way to score predictions.

    Args:
        name: as in settings files, with its arguments.
        tasks: the tasks that have it.
        higher_is_better: the direction.
        needs: "probability", "label" (depends on the threshold) or "value".
        bounds: smallest and largest value it can take.
        meaning: one sentence for the reader of a report.
        formula: value and influence of checked rows.

    Metrics of the same name are equal: the name says everything.
    """

    name: str
    tasks: frozenset[Task]
    higher_is_better: bool
    needs: Need
    bounds: tuple[float, float]
    meaning: str
    formula: Callable[[Rows], Scored]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metric) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def rows(
        self,
        y: NDArray[Any],
        prediction: NDArray[Any],
        *,
        weight: NDArray[Any] | None = None,
        threshold: float = 0.5,
        folds: NDArray[Any] | None = None,
    ) -> Rows:
        """Check arrays for this metric. Raises `DataError` when it cannot score them."""
        rows = Rows.build(
            y,
            prediction,
            values=None if self.tasks & CLASSES else next(iter(self.tasks)),
            weight=weight,
            threshold=threshold,
            folds=folds,
        )
        if rows.task not in self.tasks:
            raise DataError(
                f"{self.name} is a metric of {' and '.join(sorted(self.tasks))} tasks; "
                f"the predictions given are {rows.task} (shape {np.shape(prediction)})."
            )
        return rows

    def __call__(
        self,
        y: NDArray[Any],
        prediction: NDArray[Any],
        *,
        weight: NDArray[Any] | None = None,
        threshold: float = 0.5,
    ) -> float:
        """The metric's value; NaN where it is not defined (one class only, for the AUC).

        >>> import numpy as np
        >>> metric("auc")(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
        0.75
        """
        return self.score(self.rows(y, prediction, weight=weight, threshold=threshold)).value

    def score(self, rows: Rows) -> Scored:
        """The formula's answer, held within the bounds that rounding may pass by a hair."""
        scored = self.formula(rows)
        held = min(max(scored.value, self.bounds[0]), self.bounds[1])
        return scored if held == scored.value or math.isnan(held) else replace(scored, value=held)

    @property
    def sign(self) -> float:
        """+1 where higher is better, -1 where lower is."""
        return 1.0 if self.higher_is_better else -1.0


_UNIT = (0.0, 1.0)
_ABOVE_ZERO = (0.0, math.inf)

_PLAIN: tuple[Metric, ...] = (
    Metric(
        "auc",
        CLASSES,
        True,
        "probability",
        _UNIT,
        "Chance that a random positive row scores above a random negative one; 0.5 is a coin flip "
        "(multiclass: mean over classes of one against the rest; out of fold: pairs of one fold).",
        formulas.auc,
    ),
    Metric(
        "pr_auc",
        BINARY,
        True,
        "probability",
        _UNIT,
        "Average precision over all recalls; the share of positive rows is what guessing gives.",
        formulas.pr_auc,
    ),
    Metric(
        "log_loss",
        CLASSES | LABELS,
        False,
        "probability",
        (0.0, -math.log(formulas.PROBABILITY_FLOOR)),
        "Mean of minus the log of the probability given to what happened; 0 is perfect "
        "(multilabel: mean over labels).",
        formulas.log_loss,
    ),
    Metric(
        "brier",
        CLASSES,
        False,
        "probability",
        (0.0, 2.0),
        "Mean squared distance of the probabilities from what happened; 0 is perfect.",
        formulas.brier,
    ),
    Metric(
        "ece",
        CLASSES,
        False,
        "probability",
        _UNIT,
        "How far stated probabilities lie from observed rates, less what chance alone would show.",
        formulas.ece,
    ),
    Metric(
        "accuracy",
        CLASSES,
        True,
        "label",
        _UNIT,
        "Share of rows whose label is right.",
        formulas.accuracy,
    ),
    Metric(
        "balanced_accuracy",
        CLASSES,
        True,
        "label",
        _UNIT,
        "Mean over classes of the share of their rows that is found.",
        formulas.balanced_accuracy,
    ),
    Metric(
        "f1",
        CLASSES,
        True,
        "label",
        _UNIT,
        "Harmonic mean of precision and recall (multiclass: mean over classes).",
        formulas.f1,
    ),
    Metric(
        "precision",
        CLASSES,
        True,
        "label",
        _UNIT,
        "Share of the rows labelled positive that are (multiclass: mean over classes).",
        formulas.precision,
    ),
    Metric(
        "recall",
        CLASSES,
        True,
        "label",
        _UNIT,
        "Share of the positive rows that are found (multiclass: mean over classes).",
        formulas.recall,
    ),
    Metric(
        "mcc",
        CLASSES,
        True,
        "label",
        (-1.0, 1.0),
        "Correlation of label and truth; 0 is what guessing gives.",
        formulas.mcc,
    ),
    Metric(
        "micro_f1",
        LABELS,
        True,
        "label",
        _UNIT,
        "Harmonic mean of precision and recall over all pairs of a row and a label.",
        label_formulas.micro_f1,
    ),
    Metric(
        "macro_f1",
        LABELS,
        True,
        "label",
        _UNIT,
        "Mean over labels of the harmonic mean of precision and recall.",
        label_formulas.macro_f1,
    ),
    Metric(
        "jaccard",
        LABELS,
        True,
        "label",
        _UNIT,
        "Mean over rows of the share of true or given labels that are both; 1 where there are "
        "neither.",
        label_formulas.jaccard,
    ),
    Metric(
        "subset_accuracy",
        LABELS,
        True,
        "label",
        _UNIT,
        "Share of rows whose whole set of labels is right.",
        label_formulas.subset_accuracy,
    ),
    Metric(
        "macro_auc",
        LABELS,
        True,
        "probability",
        _UNIT,
        "Mean over labels of the chance that a row with the label scores above one without it.",
        label_formulas.macro_auc,
    ),
    Metric(
        "macro_pr_auc",
        LABELS,
        True,
        "probability",
        _UNIT,
        "Mean over labels of the average precision over all recalls.",
        label_formulas.macro_pr_auc,
    ),
    Metric(
        "mae",
        VALUES,
        False,
        "value",
        _ABOVE_ZERO,
        "Mean absolute error, in the target's unit.",
        formulas.mae,
    ),
    Metric(
        "rmse",
        VALUES,
        False,
        "value",
        _ABOVE_ZERO,
        "Root of the mean squared error, in the target's unit; large errors weigh more.",
        formulas.rmse,
    ),
    Metric(
        "median_ae",
        VALUES,
        False,
        "value",
        _ABOVE_ZERO,
        "Half of the rows have an absolute error below this.",
        formulas.median_ae,
    ),
    Metric(
        "r2",
        VALUES,
        True,
        "value",
        (-math.inf, 1.0),
        "Share of the target's variance that is explained; 0 is what its mean would give.",
        formulas.r2,
    ),
    Metric(
        "mape",
        VALUES,
        False,
        "value",
        _ABOVE_ZERO,
        "Mean absolute error as a share of the true value.",
        formulas.mape,
    ),
    Metric(
        "rmsle",
        VALUES,
        False,
        "value",
        _ABOVE_ZERO,
        "Root mean squared error of log(1 + value): errors count as ratios.",
        formulas.rmsle,
    ),
    Metric(
        "bits_per_byte",
        LANGUAGE,
        False,
        "value",
        _ABOVE_ZERO,
        "Bits that the model needs for a byte of the text (UTF-8), whatever its tokens are; 8 is "
        "knowing nothing.",
        formulas.bits_per_byte,
    ),
    Metric(
        "byte_perplexity",
        LANGUAGE,
        False,
        "value",
        _ABOVE_ZERO,
        "Among how many equally likely bytes the model chooses on average: 2 to the bits per byte.",
        formulas.byte_perplexity,
    ),
    Metric(
        "nats_per_row",
        LANGUAGE,
        False,
        "value",
        _ABOVE_ZERO,
        "Mean of minus the log of the probability given to a row's whole text.",
        formulas.nats_per_row,
    ),
    *(
        Metric(
            f"recall_at_{most}",
            RETRIEVAL,
            True,
            "value",
            _UNIT,
            f"Share of images whose own caption is {told} among those that the model knows.",
            partial(formulas.recall_at, most),
        )
        for most, told in ((1, "the first"), (5, "one of the first five"))
    ),
    Metric(
        "mean_reciprocal_rank",
        RETRIEVAL,
        True,
        "value",
        _UNIT,
        "Mean of 1 / rank of an image's own caption among those that the model knows.",
        formulas.mean_reciprocal_rank,
    ),
)


def _precision_at_recall(name: str, least: float) -> Metric:
    return Metric(
        name,
        BINARY,
        True,
        "probability",
        _UNIT,
        f"Precision at the highest threshold that finds {least:.4g} of the positive rows.",
        lambda rows: formulas.precision_at_recall(rows, least),
    )


def _recall_at_precision(name: str, least: float) -> Metric:
    return Metric(
        name,
        BINARY,
        True,
        "probability",
        _UNIT,
        f"Largest share of positive rows found while {least:.4g} of the rows flagged are positive.",
        lambda rows: formulas.recall_at_precision(rows, least),
    )


def _pinball(name: str, quantile: float) -> Metric:
    return Metric(
        name,
        VALUES,
        False,
        "value",
        _ABOVE_ZERO,
        f"Mean loss that is smallest for the true {quantile:.4g} quantile.",
        lambda rows: formulas.pinball(rows, quantile),
    )


def _cost(name: str, false_positive: float, false_negative: float) -> Metric:
    return Metric(
        name,
        BINARY,
        False,
        "label",
        (0.0, max(false_positive, false_negative)),
        f"Mean price of a row's mistake: {false_positive:g} for a false positive, "
        f"{false_negative:g} for a false negative.",
        lambda rows: formulas.cost(rows, false_positive, false_negative),
    )


_WITH_SHARE: dict[str, Callable[[str, float], Metric]] = {
    "precision_at_recall": _precision_at_recall,
    "recall_at_precision": _recall_at_precision,
    "pinball": _pinball,
}
_BY_NAME = {entry.name: entry for entry in _PLAIN}

METRIC_NAMES: tuple[str, ...] = (*_BY_NAME, *_WITH_SHARE, "cost")
"""Every metric's name, without arguments."""

_STANDARD: dict[Task, tuple[str, ...]] = {
    "binary": (
        "auc",
        "pr_auc",
        "log_loss",
        "brier",
        "ece",
        "accuracy",
        "balanced_accuracy",
        "f1",
        "precision",
        "recall",
        "mcc",
    ),
    "multiclass": (
        "log_loss",
        "auc",
        "accuracy",
        "balanced_accuracy",
        "f1",
        "precision",
        "recall",
        "mcc",
        "brier",
        "ece",
    ),
    "multilabel": (
        "log_loss",
        "micro_f1",
        "macro_f1",
        "jaccard",
        "subset_accuracy",
        "macro_auc",
        "macro_pr_auc",
    ),
    "regression": ("rmse", "mae", "median_ae", "r2"),
    "language": ("bits_per_byte", "byte_perplexity", "nats_per_row"),
    "retrieval": ("recall_at_1", "recall_at_5", "mean_reciprocal_rank"),
}


def metric(name: str, task: Task | None = None) -> Metric:
    """The metric of that name.

    Args:
        name: a metric's name, with ``=`` and its arguments where it takes some.
        task: refuse a metric that this task does not have.

    Raises:
        SettingsError: no such metric (the nearest names are told), wrong arguments, or a metric
            that the task does not have.

    >>> metric("recall_at_precision=0.9").name
    'recall_at_precision=0.9'
    >>> metric("aug")
    Traceback (most recent call last):
    ...
    loopline.errors.SettingsError: There is no metric 'aug'; did you mean 'auc'?
    """
    found = _read(name)
    if task is not None and task not in found.tasks:
        others = ", ".join(entry for entry in METRIC_NAMES if task in _tasks_of(entry))
        raise SettingsError(
            [
                f"{found.name} is a metric of {' and '.join(sorted(found.tasks))} tasks, "
                f"and this task is {task}; its metrics are {others}."
            ]
        )
    return found


def default_metric(task: Task) -> Metric:
    """What candidates are compared by when the settings say nothing.

    >>> default_metric("regression").name
    'rmse'
    """
    names: dict[Task, str] = {
        "binary": "auc",
        "multiclass": "log_loss",
        "multilabel": "log_loss",
        "regression": "rmse",
        "language": "bits_per_byte",
        "retrieval": "mean_reciprocal_rank",
    }
    return _BY_NAME[names[task]]


def standard_metrics(task: Task) -> tuple[Metric, ...]:
    """The metrics that every evaluation of the task shows, in the order shown."""
    return tuple(_BY_NAME[name] for name in _STANDARD[task])


def in_order(names: Iterable[str], first: str) -> list[str]:
    """Metric names in the order to be shown: the one that ranks, the cost, then as usual.

    >>> in_order(["accuracy", "recall_at_precision=0.9", "auc", "cost=1,5", "f1"], "f1")
    ['f1', 'cost=1,5', 'auc', 'accuracy', 'recall_at_precision=0.9']
    """
    usual = list(METRIC_NAMES)

    def place(name: str) -> tuple[bool, bool, int]:
        head = name.partition("=")[0]
        return name != first, head != "cost", usual.index(head) if head in usual else len(usual)

    return sorted(names, key=place)


def _tasks_of(name: str) -> frozenset[Task]:
    if name in _BY_NAME:
        return _BY_NAME[name].tasks
    return VALUES if name == "pinball" else BINARY


def _read(name: str) -> Metric:
    head, equals, text = name.partition("=")
    head = head.strip()
    if head not in METRIC_NAMES:
        near = difflib.get_close_matches(head.lower(), METRIC_NAMES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(METRIC_NAMES)}."
        raise SettingsError([f"There is no metric {head!r}; {hint}"])
    if head in _BY_NAME:
        if equals:
            raise SettingsError([f"The metric {head} takes no argument, got {name!r}."])
        return _BY_NAME[head]
    numbers = read_numbers(text)
    if head == "cost":
        if len(numbers) != 2 or min(numbers) < 0 or max(numbers) <= 0:
            raise SettingsError(
                [
                    "The metric cost needs the price of a false positive and of a false negative, "
                    f"as in 'cost=1,5', both >= 0 and one above 0; got {name!r}."
                ]
            )
        return _cost(f"cost={numbers[0]:.15g},{numbers[1]:.15g}", numbers[0], numbers[1])
    if len(numbers) != 1 or not 0 < numbers[0] <= 1 or (head == "pinball" and numbers[0] == 1):
        raise SettingsError(
            [f"The metric {head} needs one number in (0, 1), as in '{head}=0.9'; got {name!r}."]
        )
    return _WITH_SHARE[head](f"{head}={numbers[0]:.15g}", numbers[0])


def read_numbers(text: str) -> tuple[float, ...]:
    """The finite numbers of a comma list; empty when any of them is not one.

    >>> read_numbers("1,5")
    (1.0, 5.0)
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        return ()
    return numbers if all(math.isfinite(number) for number in numbers) else ()
