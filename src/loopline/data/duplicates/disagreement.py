"""Rows that are equal in their features and different in their target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.duplicates.clusters import Ints, first_rows, run_starts
from loopline.errors import DataError

NUM_EXAMPLES = 5


@dataclass(frozen=True)
class LabelDisagreement:
    """Clusters of copies whose targets differ.

    Args:
        clusters: how many clusters hold more than one target value.
        rows: rows in them.
        copied_rows: rows in clusters of two or more.
        wrong_at_least: rows that no model of the features can get right: in each cluster, those
            that do not have its most frequent value.
        ceiling: the highest accuracy that is possible on these rows, from 0 to 1; for class
            targets alone.
        examples: up to five clusters, each as some of its row numbers, one a target value.
        sentence: the finding in words.
    """

    clusters: int
    rows: int
    copied_rows: int
    wrong_at_least: int
    ceiling: float
    examples: tuple[tuple[int, ...], ...]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back."""
        return {**asdict(self), "examples": [list(rows) for rows in self.examples]}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> LabelDisagreement:
        """Read what `to_dict` wrote."""
        examples = tuple(tuple(int(row) for row in rows) for rows in data["examples"])
        return LabelDisagreement(**{**data, "examples": examples})


def label_disagreement(clusters: Ints, y: NDArray[Any]) -> LabelDisagreement:
    """How often copies of one row have different targets, and what that costs.

    Args:
        clusters: (rows,) equal for rows with the same features, such as
            `NearDuplicates.clusters`.
        y: (rows,) the target: class codes, numbers or strings.

    Raises:
        DataError: the two do not have the same number of rows.

    >>> found = label_disagreement(np.array([0, 0, 0, 3]), np.array(["a", "b", "a", "b"]))
    >>> found.clusters, found.rows, found.wrong_at_least, found.ceiling, found.examples
    (1, 3, 1, 0.75, ((0, 1),))
    """
    num_rows = clusters.size
    if y.shape != (num_rows,):
        raise DataError(
            f"Targets must have shape ({num_rows:,},), one for each row of the clusters, got "
            f"{y.shape}."
        )
    first = first_rows(clusters)
    _, value = np.unique(y, return_inverse=True)
    order = np.lexsort((np.arange(num_rows), value, first))
    pair = first[order] * np.int64(num_rows + 1) + value[order]
    starts = run_starts(pair)  # one run a cluster and value
    counts = np.diff(starts, append=num_rows)
    owner = first[order[starts]]
    heads = run_starts(owner)  # the first run of each cluster
    values = np.diff(heads, append=owner.size)
    split = values > 1
    sizes = np.add.reduceat(counts, heads) if heads.size else counts
    best = np.maximum.reduceat(counts, heads) if heads.size else counts
    wrong = int((sizes - best)[split].sum())
    examples = tuple(
        tuple(order[starts[head : head + min(number, NUM_EXAMPLES)]].tolist())
        for head, number in zip(heads[split], values[split], strict=True)
    )[:NUM_EXAMPLES]
    ceiling = 1.0 - wrong / num_rows if num_rows else 1.0
    rows, copied = int(sizes[split].sum()), int(sizes[sizes > 1].sum())
    if wrong:
        many = f"{int(split.sum()):,} {'cluster' if split.sum() == 1 else 'clusters'}"
        sentence = (
            f"{rows:,} rows in {many} have the same features and different targets, so no model "
            f"can be right on more than {ceiling:.2%} of these rows."
        )
    else:
        sentence = f"None of the {copied:,} rows with copies disagrees with them in the target."
    return LabelDisagreement(int(split.sum()), rows, copied, wrong, ceiling, examples, sentence)
