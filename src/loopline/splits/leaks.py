"""Looking for columns that carry the answer, in the training rows only.

A column that equals the target, renames it, rescales it, is filled in only for one class, or adds
up to it with another column gives a perfect score today and nothing tomorrow. Such columns are
*leaks*. A column that merely predicts the target very well is *strong*: it is told, not refused,
because honest strong columns exist.

Every search runs on a sample of rows first and confirms what it finds on all rows, so the usual
cost is that of the sample. A finding needs 99.9 % agreement over rows of every kind: over those
with the most frequent target value and over those without, at least `MIN_ROWS` each, so a rare
class or many zeros cannot agree by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.cleaning.finding import plain
from loopline.splits.leak_formulas import FORMULAS, rounding, screened
from loopline.splits.views import TrainView

Floats = NDArray[np.float64]

SHARE = 0.999
"""Part of the rows on which a leak must agree with the target."""
MIN_ROWS = 20
"""Fewer agreeing rows, inside or outside the most frequent target value, prove nothing."""
FEW_ROWS = 5
"""With at least so many rows of the rarest class a perfect column is told as strong."""
MIN_KNOWN = 0.5
"""Columns that are combined must be filled in on this part of the rows."""
MIN_PART = 0.1
"""One column that says the target itself must be filled in on this part of the rows."""
ROWS_PER_VALUE = 20
"""A category that determines the class needs so many rows a value on average."""
STRONG = 0.99
"""|correlation| (regression) or ranking skill |2·AUC - 1| (two classes) that is told as strong."""
SAMPLE_ROWS = 20_000
COPY = 0.99999
"""A number that follows the target this closely is the target, rounded; noise of 0.4 % of the
target's spread is enough to stay below."""
SCREEN_ROWS = 64
LOOK_ROWS = 200
MANY = 0.1
"""Part of empty cells from which a sentence speaks of them."""


@dataclass(frozen=True)
class LeakFinding:
    """One suspicion about one or more columns.

    Args:
        kind: `equal`, `affine`, `one_to_one`, `determines`, `missing`, `sum`, `difference`,
            `product`, `ratio` or `strong`.
        severity: `leak` is refused unless a person allows it; `strong` is only told.
        columns: the columns together.
        share: part of the rows (with all columns filled in) that agree; for `strong` the measure.
        sentence: for a person.
        examples: up to five rows, the columns and the target.
    """

    kind: str
    severity: Literal["leak", "strong"]
    columns: tuple[str, ...]
    share: float
    sentence: str
    examples: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "columns": list(self.columns),
            "share": self.share,
            "sentence": self.sentence,
            "examples": [dict(example) for example in self.examples],
        }


def find_target_copies(view: TrainView) -> list[LeakFinding]:
    """Find columns that equal, rename, rescale, reveal or add up to the target.

    Args:
        view: training rows. No test row is ever looked at.

    Returns:
        Leaks first, single columns before combinations, in table order; then strong columns.

    >>> import numpy as np
    >>> from loopline.data.schema import Column, Schema
    >>> from loopline.testing.splitters import view_of
    >>> rng = np.random.default_rng(0)
    >>> guests, members = rng.integers(0, 90, 500), rng.integers(0, 90, 500)
    >>> frame = pl.DataFrame({"guests": guests, "members": members, "all": guests + members})
    >>> columns = (Column("guests", "number"), Column("members", "number"))
    >>> schema = Schema((*columns, Column("all", "number", "target")), "regression")
    >>> [finding.sentence for finding in find_target_copies(view_of(frame, schema))]
    ["'guests' + 'members' equals the target 'all' on 100.0% of 500 rows."]
    """
    if view.num_rows < 2 * MIN_ROWS:
        return []
    # Numbers near the largest double overflow in sums and products, and are then no match.
    with np.errstate(over="ignore", invalid="ignore"):
        return _searched(view)


def _searched(view: TrainView) -> list[LeakFinding]:
    search = _Search(view)
    leaks: list[LeakFinding] = []
    strong: list[LeakFinding] = []
    for name in view.schema.features:
        found = search.one_column(name)
        if found is not None:
            (leaks if found.severity == "leak" else strong).append(found)
    taken = {name for finding in leaks for name in finding.columns}
    leaks += search.combinations([name for name in search.numeric if name not in taken])
    return leaks + strong


class _Search:
    """One audit: the target, a sample, and the columns read so far."""

    def __init__(self, view: TrainView) -> None:
        self.view = view
        self.target = view.schema.target
        self.classes = view.schema.classes
        self.y = _numeric_target(view)
        self.codes = view.target if self.classes else None
        self.sample = view.sample(SAMPLE_ROWS, 0)
        self.sample_y = _numeric_target(self.sample)
        self.sample_codes = self.sample.target if self.classes else None
        self.sample_values: dict[str, Floats] = {}
        features = {column.name: column.type for column in view.schema.columns}
        for name in view.schema.features:
            series = self.sample.column(name)
            if features[name] == "text" and not _says_numbers(series):
                continue
            if series.dtype.is_numeric() or series.dtype == pl.Boolean or _says_numbers(series):
                self.sample_values[name] = _floats(series)

    @property
    def numeric(self) -> list[str]:
        return list(self.sample_values)

    # --- one column ------------------------------------------------------------------------------

    def one_column(self, name: str) -> LeakFinding | None:
        values = self.sample_values.get(name)
        if values is not None and self.y is not None and self.sample_y is not None:
            found = self._equal_or_affine(name, values, self.sample_y)
            if found is not None:
                return found
        if self.codes is not None:
            found = self._reveals(name)
            if found is not None:
                return found
        if values is not None:
            return self._strong_number(name, values)
        return None

    def _equal_or_affine(self, name: str, values: Floats, sample_y: Floats) -> LeakFinding | None:
        def equal(x: Floats) -> Floats:
            return x

        if self._agree(values, sample_y, known=MIN_PART) is not None:
            return self._confirmed(
                "equal",
                (name,),
                equal,
                f"{name!r} equals the target {self.target!r}{self._where_filled(name)}",
                known=MIN_PART,
            )
        slope, shift = _line(values, sample_y)
        if slope == 0.0 or not np.isfinite(slope):
            return None

        def scaled(x: Floats) -> Floats:
            return slope * x + shift

        if np.unique(sample_y).size < 3 or self._agree(scaled(values), sample_y) is None:
            return None
        text = f"{name!r} times {slope:.6g} plus {shift:.6g} equals the target {self.target!r}"
        return self._confirmed("affine", (name,), scaled, text)

    def _reveals(self, name: str) -> LeakFinding | None:
        """Whether the values, or the emptiness, of a column give the class away."""
        assert self.codes is not None
        assert self.sample_codes is not None
        series = self.sample.column(name)
        kind = _revealing(series, self.sample_codes)
        if kind is None:
            return None
        whole = self.view.column(name)
        if self.sample is not self.view and _revealing(whole, self.codes) != kind:
            return None
        cells, codes = (whole, self.codes) if kind == "missing" else _filled(whole, self.codes)
        share = _purity(_value_codes(cells, kind), codes, FEW_ROWS)
        if kind == "pure":
            return self._finding(
                "strong",
                (name,),
                share,
                f"Rows with the same value of {name!r} nearly always ({share:.1%}) have the same "
                f"class of {self.target!r}. This may be honest; make sure it is known when "
                "predicting, or give it `role: ignore`.",
            )
        text = {
            "one_to_one": f"{name!r} is the target {self.target!r} under other names"
            f"{self._where_filled(name)}",
            "determines": f"Every value of {name!r} belongs to one class of {self.target!r}",
            "missing": f"Whether {name!r} is empty tells the class of {self.target!r}",
        }[kind]
        partly = kind != "missing" and self._where_filled(name)
        rows = whole.len() - whole.null_count() if partly else whole.len()
        sentence = f"{text}, on {share:.1%} of {rows:,} rows."
        return self._finding(kind, (name,), share, sentence)

    def _where_filled(self, name: str) -> str:
        """For a sentence, where a column is empty on many rows."""
        series = self.view.column(name)
        if series.null_count() <= MANY * series.len():
            return ""
        return (
            f" where it is filled in ({1.0 - series.null_count() / series.len():.0%} of the rows)"
        )

    def _strong_number(self, name: str, values: Floats) -> LeakFinding | None:
        if self.sample_codes is not None:
            if len(self.classes) != 2:
                return None
            skill, what = _ranking_skill(values, self.sample_codes), "ranks the two classes of"
        elif self.sample_y is not None:
            skill, what = _correlation(values, self.sample_y), "follows"
        else:
            return None
        if skill < STRONG:
            return None
        y = self.sample_y
        varied = y is not None and np.count_nonzero(y != _most_frequent(y)) >= MIN_ROWS
        if self.sample_codes is None and varied and skill >= COPY:
            return self._finding(
                "affine",
                (name,),
                skill,
                f"{name!r} is {self.target!r} in another unit, rounded (correlation {skill:.6f}).",
            )
        return self._finding(
            "strong",
            (name,),
            skill,
            f"{name!r} alone {what} {self.target!r} almost perfectly ({skill:.3f} of 1). This may "
            "be honest; make sure it is known when predicting, or give it `role: ignore`.",
        )

    # --- combinations ----------------------------------------------------------------------------

    def combinations(self, names: list[str]) -> list[LeakFinding]:
        """Two or three columns by sum, difference, product or ratio."""
        if self.sample_y is None or len(names) < 2:
            return []
        names = [name for name in names if np.nanstd(_some(self.sample_values[name])) > 0.0]
        screen = _screen_rows(self.sample_y)
        y = self.sample_y[screen]
        matrix = np.stack([self.sample_values[name][screen] for name in names]) if names else None
        found: list[LeakFinding] = []
        taken: set[str] = set()
        if matrix is None:
            return []
        slack = rounding(self.sample_y)
        for kind, places in screened(matrix, y, slack):
            columns = tuple(names[place] for place in places)
            if len(columns) == 3 and taken & set(columns):
                continue
            formula, text = FORMULAS[kind]
            sample = formula(*(self.sample_values[name] for name in columns))
            if self._agree(sample, self.sample_y, slack) is None:
                continue
            told = text.format(*(repr(name) for name in columns))
            finding = self._confirmed(
                kind.split(" ")[0],
                columns,
                formula,
                f"{told} equals the target {self.target!r}",
                slack,
            )
            if finding is not None:
                found.append(finding)
                taken |= set(columns)
        return found

    # --- confirmation ----------------------------------------------------------------------------

    def _confirmed(
        self,
        kind: str,
        columns: tuple[str, ...],
        formula: Callable[..., Floats],
        text: str,
        slack: float = 0.0,
        known: float = MIN_KNOWN,
    ) -> LeakFinding | None:
        assert self.y is not None
        values = formula(*(_floats(self.view.column(name)) for name in columns))
        share = self._agree(values, self.y, slack, known=known)
        if share is None:
            return None
        if slack and self._agree(values, self.y) is None:
            text += ", rounded,"
        whole = not self._where_filled(columns[0]) or len(columns) > 1
        rows = self.view.num_rows if whole else int(np.isfinite(values).sum())
        sentence = f"{text} on {share:.1%} of {rows:,} rows."
        return self._finding(kind, columns, share, sentence)

    def _agree(
        self, values: Floats, y: Floats, slack: float = 0.0, known: float = MIN_KNOWN
    ) -> float | None:
        """Share of filled rows that agree (within `slack`), or None when that is no evidence."""
        filled = np.isfinite(values)
        if filled.mean() < known:
            return None
        scale = 1e-9 * max(float(np.abs(y).max()), 1e-300)
        with np.errstate(invalid="ignore"):
            same = np.abs(values - y) <= np.maximum(1e-6 * np.abs(y) + scale, slack)
        same, y = same[filled], y[filled]
        usual = y == _most_frequent(y)
        for part in (usual, ~usual) if usual.mean() > 0.5 else (~usual,):
            if part.sum() < MIN_ROWS or same[part].mean() < SHARE:
                return None
        return float(same.mean()) if same.mean() >= SHARE else None

    def _finding(
        self, kind: str, columns: tuple[str, ...], share: float, sentence: str
    ) -> LeakFinding:
        rows = self.view.subset(np.arange(min(5, self.view.num_rows)))
        frame = rows.frame(columns)
        labels: list[Any] = (
            [self.classes[code] for code in rows.target.tolist()]
            if self.classes
            else rows.target.tolist()
        )
        examples = tuple(
            {**{name: plain(value) for name, value in row.items()}, self.target: label}
            for row, label in zip(frame.to_dicts(), labels, strict=True)
        )
        severity: Literal["leak", "strong"] = "strong" if kind == "strong" else "leak"
        return LeakFinding(kind, severity, columns, share, sentence, examples)


def _screen_rows(y: Floats) -> NDArray[np.int64]:
    """A few rows, half of them away from the most frequent target value where there are such."""
    usual = y == _most_frequent(y)
    rare = np.flatnonzero(~usual)[: SCREEN_ROWS // 2]
    return np.concatenate([rare, np.flatnonzero(usual)[: SCREEN_ROWS - rare.size]])


def _numeric_target(view: TrainView) -> Floats | None:
    """The target as numbers; None where classes are not numbers."""
    classes = view.schema.classes
    if not classes:
        return np.asarray(view.target, dtype=np.float64)
    if not all(isinstance(label, (bool, int, float)) for label in classes):
        return None
    values = np.asarray([float(label) for label in classes])
    return np.asarray(values[view.target])


def _floats(series: pl.Series) -> Floats:
    """The cells as numbers; empty ones, and words that are no numbers, as not-a-number."""
    return series.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()


def _says_numbers(series: pl.Series) -> bool:
    """Whether words are numbers, written out.

    >>> _says_numbers(pl.Series(["1.5", None, "-3"])), _says_numbers(pl.Series(["1.5", "red"]))
    (True, False)
    """
    if series.dtype != pl.String():
        return False
    words = series.drop_nulls()
    if not words.len() or words.head(LOOK_ROWS).cast(pl.Float64, strict=False).null_count() > (
        1.0 - SHARE
    ) * min(words.len(), LOOK_ROWS):
        return False
    return words.cast(pl.Float64, strict=False).null_count() <= (1.0 - SHARE) * words.len()


def _some(values: Floats) -> Floats:
    known = values[np.isfinite(values)]
    return known if known.size else np.zeros(1)


def _most_frequent(values: NDArray[Any]) -> Any:
    found, counts = np.unique(values, return_counts=True)
    return found[np.argmax(counts)]


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope and shift of the line that most pairs of rows lie on (median of slopes)."""
    known = np.flatnonzero(np.isfinite(x))
    if known.size < 2 * MIN_ROWS:
        return 0.0, 0.0
    order = known[np.argsort(x[known], kind="stable")]
    half = order.size // 2
    low, high = order[:half], order[-half:]
    apart = x[high] > x[low]
    if not apart.any():
        return 0.0, 0.0
    low, high = low[apart], high[apart]
    slope = float(np.median((y[high] - y[low]) / (x[high] - x[low])))
    return slope, float(np.median(y[known] - slope * x[known]))


def _value_codes(series: pl.Series, kind: str) -> NDArray[np.int64]:
    if kind == "missing":
        return series.is_null().to_numpy().astype(np.int64)
    frame = pl.DataFrame({"value": series}).with_row_index("row")
    first = frame.select(pl.col("row").first().over("value"))["row"].to_numpy()
    return np.unique(first, return_inverse=True)[1].astype(np.int64)


def _revealing(series: pl.Series, codes: NDArray[np.int64]) -> str | None:
    """How a column gives the class away: `one_to_one`, `determines`, `missing`, `pure` or None."""
    if series.dtype.is_nested() or series.dtype == pl.Object:
        return None
    if series.null_count() and _purity(_value_codes(series, "missing"), codes) >= SHARE:
        return "missing"
    series, codes = _filled(series, codes)
    if not series.len():
        return None
    values = _value_codes(series, "value")
    counts = np.bincount(values)
    repeated = float((counts[values] > 1).mean())
    if repeated < MIN_KNOWN or _purity(values, codes, FEW_ROWS) < SHARE:
        return None
    if _purity(values, codes) < SHARE:
        return "pure"
    num_values = int((counts >= MIN_ROWS).sum())
    num_classes = np.unique(codes).size
    covered = float(counts[counts >= MIN_ROWS].sum() / counts.sum())
    if num_values == num_classes and covered >= SHARE:
        return "one_to_one"
    is_name = series.dtype in (pl.String, pl.Boolean)
    if is_name and counts.sum() / counts.size >= ROWS_PER_VALUE:
        return "determines"
    return "pure"


def _filled(series: pl.Series, codes: NDArray[np.int64]) -> tuple[pl.Series, NDArray[np.int64]]:
    """The rows that are filled in, where they are enough: an empty cell is no name for a class."""
    filled = series.is_not_null()
    if filled.all() or filled.mean() < MIN_PART:  # type: ignore[operator]
        return series, codes
    return series.filter(filled), codes[filled.to_numpy()]


def _purity(values: NDArray[np.int64], codes: NDArray[np.int64], min_rows: int = MIN_ROWS) -> float:
    """Worst class's share of rows whose class is foretold by the *other* rows of equal value.

    Rows whose value occurs once foretell nothing and are left out; a class with fewer than
    `min_rows` rows left gives 0, for it cannot be judged.
    """
    num_classes = int(codes.max()) + 1
    num_values = int(values.max()) + 1
    if num_values * num_classes > 50_000_000:
        return 0.0
    cell = values * num_classes + codes
    table = np.bincount(cell, minlength=num_values * num_classes).reshape(-1, num_classes)
    size = table.sum(axis=1)
    own = table.ravel()[cell]
    repeated = size[values] > 1
    others = size[values] - own  # rows of the value in other classes
    right = (own - 1) > others
    worst = 1.0
    present = np.flatnonzero(np.bincount(codes, minlength=num_classes))
    if present.size < 2:
        return 0.0
    for label in present:
        part = repeated & (codes == label)
        if part.sum() < min_rows:
            return 0.0
        worst = min(worst, float(right[part].mean()))
    return worst


def _correlation(x: Floats, y: Floats) -> float:
    known = np.isfinite(x)
    if known.mean() < MIN_KNOWN or known.sum() < 2 * MIN_ROWS:
        return 0.0
    x, y = x[known], y[known]
    if x.std() == 0.0 or y.std() == 0.0:
        return 0.0
    found = float(abs(np.corrcoef(x, y)[0, 1]))
    return found if np.isfinite(found) else 0.0


def _ranking_skill(x: Floats, codes: NDArray[np.int64]) -> float:
    """|2·AUC - 1| of the column as a score, ties counted half (Mann and Whitney, 1947)."""
    known = np.isfinite(x)
    positive = codes[known] == 1
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if known.mean() < MIN_KNOWN or min(num_positive, num_negative) < MIN_ROWS:
        return 0.0
    _, inverse, counts = np.unique(x[known], return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = (last - (counts - 1) / 2)[inverse]
    wins = rank[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(abs(2.0 * wins / (num_positive * num_negative) - 1.0))
