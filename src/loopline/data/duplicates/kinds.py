"""What was found, as plain values: kinds of likeness, their clusters, and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.duplicates.clusters import Ints, connected, sizes_of
from loopline.errors import SettingsError

MAX_PAIRS = 20
BY_EQUALITY = ("exact", "spelling")
"""Kinds whose clusters cannot be chains."""
SMALL_CLUSTER = 10
"""Clusters up to this size are never "too large", however short the table."""

RANGES: dict[str, tuple[float, float]] = {
    "text_similarity": (0.5, 1.0),
    "text_words": (2, 100),
    "shingle_words": (1, 8),
    "number_tolerance": (1e-6, 0.2),
    "image_similarity": (0.9, 1.0),
    "largest_share": (0.001, 1.0),
}


@dataclass(frozen=True)
class DuplicateSettings:
    """When two rows count as copies of one another.

    Args:
        text_similarity: least share of word groups that two texts have in common (Jaccard
            similarity of their shingles), 0.5 to 1; of texts of 20 words or more that share half
            of their word groups, least share of words, each counted as often as it stands there.
        text_words: texts of fewer words are never near copies; as part of a row they are compared
            as a whole, without case, punctuation and accents. 2 to 100.
        shingle_words: consecutive words in one word group, 1 to 8. In scripts without blanks
            between words, every character counts as a word.
        number_tolerance: greatest distance between two rows that may count as copies: the root of
            the mean squared difference over the number columns, each in units of its spread (the
            standard deviation without the outermost 1 % on both sides), 1e-6 to 0.2.
        image_similarity: least correlation of two images, grey, 32 × 32 points, 0.9 to 1.
        largest_share: a cluster of more than this share of all rows (and of more than 10 rows) is
            a common value or a chain, and is not kept together, 0.001 to 1.

    Raises:
        SettingsError: a value lies outside its range.

    >>> DuplicateSettings(text_similarity=0.9).to_dict()["text_similarity"]
    0.9
    """

    text_similarity: float = 0.8
    text_words: int = 8
    shingle_words: int = 2
    number_tolerance: float = 0.05
    image_similarity: float = 0.985
    largest_share: float = 0.05

    def __post_init__(self) -> None:
        problems = [
            f"`{name}` must lie in [{low:g}, {high:g}], got {getattr(self, name)!r}."
            for name, (low, high) in RANGES.items()
            if not low <= getattr(self, name) <= high
        ]
        if not problems and self.text_words < self.shingle_words:
            problems.append(
                f"`text_words` must be at least `shingle_words`, got {self.text_words} < "
                f"{self.shingle_words}."
            )
        if problems:
            raise SettingsError(problems, "Settings for duplicates")

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def limit(self, num_rows: int) -> int:
        """The most rows that one cluster may have in a table of `num_rows` rows."""
        return max(int(self.largest_share * num_rows), SMALL_CLUSTER)


@dataclass(frozen=True)
class Kind:
    """One way of being alike, and what was found of it.

    Args:
        name: `exact`, `spelling`, `numbers`, `text` or `image`.
        columns: the columns that were compared.
        rows: rows in clusters of two or more found this way.
        clusters: how many such clusters.
        pairs: up to 20 pairs (row, row, similarity from 0 to 1), each verified.
        sentence: the finding in words.
        kept_apart: of `rows`, those in clusters too large to be kept together.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    clusters: int
    pairs: tuple[tuple[int, int, float], ...]
    sentence: str
    kept_apart: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back."""
        return {
            **asdict(self),
            "columns": list(self.columns),
            "pairs": [list(pair) for pair in self.pairs],
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Kind:
        """Read what `to_dict` wrote."""
        pairs = tuple((int(a), int(b), float(c)) for a, b, c in data["pairs"])
        return Kind(**{**data, "columns": tuple(data["columns"]), "pairs": pairs})


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """All that was found in a table.

    Args:
        clusters: (rows,) the lowest row number of each row's cluster, all kinds merged; a row
            without a copy is its own cluster.
        kinds: one entry for each way of being alike that was found, or that was looked for and
            needs a remark.
    """

    clusters: NDArray[np.int64]
    kinds: tuple[Kind, ...]

    @property
    def num_rows(self) -> int:
        """Rows that share a cluster with another row."""
        return int((sizes_of(self.clusters) > 1).sum())

    def to_dict(self) -> dict[str, Any]:
        """Plain data without the array; `from_dict` reads it back."""
        return {"kinds": [kind.to_dict() for kind in self.kinds]}

    @staticmethod
    def from_dict(
        data: Mapping[str, Any], clusters: NDArray[np.int64] | None = None
    ) -> NearDuplicates:
        """Read what `to_dict` wrote; `clusters` is the array that was stored beside it, if any."""
        codes = np.zeros(0, dtype=np.int64) if clusters is None else clusters
        return NearDuplicates(codes, tuple(Kind.from_dict(kind) for kind in data["kinds"]))


@dataclass(frozen=True, eq=False)
class Links:
    """Verified pairs of rows with their similarity (0 to 1), and remarks for the sentence.

    Args:
        left: one row of each pair.
        right: the other.
        likeness: similarity of the two.
        remarks: whole sentences.
    """

    left: Ints
    right: Ints
    likeness: NDArray[np.float64]
    remarks: tuple[str, ...] = ()

    @staticmethod
    def none(*remarks: str) -> Links:
        """No pair at all."""
        empty = np.zeros(0, dtype=np.int64)
        return Links(empty, empty, np.zeros(0), remarks)


@dataclass(frozen=True, eq=False)
class Clustered:
    """A kind with the coding that it gives the rows."""

    kind: Kind
    codes: Ints = field(repr=False)


def clustered(
    name: str,
    columns: tuple[str, ...],
    num_rows: int,
    links: Links,
    saying: str,
    settings: DuplicateSettings,
) -> Clustered:
    """Turn verified links into clusters, counts, example pairs and a sentence.

    Args:
        name: the kind.
        columns: what was compared.
        num_rows: rows of the table.
        links: the verified pairs.
        saying: what the rows have in common, after "N rows in M clusters".
        settings: for the largest cluster that is kept together.
    """
    codes = connected(num_rows, links.left, links.right)
    sizes = sizes_of(codes)
    rows = int((sizes > 1).sum())
    clusters = int(((sizes > 1) & (codes == np.arange(num_rows))).sum())
    limit = settings.limit(num_rows)
    large = sizes > limit
    sentences = []
    if rows:
        many = "cluster" if clusters == 1 else "clusters"
        sentences.append(f"{rows:,} rows in {clusters:,} {many} {saying}.")
    sentences += links.remarks
    apart = np.zeros(num_rows, dtype=bool)
    if large.any():
        # Where most of what was linked is one heap, the links have no meaning at all.
        none = 2 * int(large.sum()) > rows and name not in BY_EQUALITY
        apart = sizes > 1 if none else large
        what = "none of them is kept together" if none else "it is not kept together"
        sentences.append(
            f"The largest cluster would hold {int(sizes.max()):,} rows, more than "
            f"{settings.largest_share:.1%} of all, which is a common value or a chain rather than "
            f"copies, so {what}."
        )
    glued = np.where(apart, np.arange(num_rows), codes)
    kind = Kind(
        name=name,
        columns=columns,
        rows=rows,
        clusters=clusters,
        pairs=_examples(links, apart),
        sentence=" ".join(sentences),
        kept_apart=int(apart.sum()),
    )
    return Clustered(kind, glued)


def _examples(links: Links, apart: NDArray[np.bool_]) -> tuple[tuple[int, int, float], ...]:
    """The first pairs by row number, one a row, those that are kept together before the others."""
    if not links.left.size:
        return ()
    left, right = np.minimum(links.left, links.right), np.maximum(links.left, links.right)
    order = np.lexsort((right, left, apart[left]))
    seen: set[int] = set()
    found: list[tuple[int, int, float]] = []
    for at in order[: 50 * MAX_PAIRS].tolist():
        pair = int(left[at]), int(right[at])
        if not seen.isdisjoint(pair):
            continue
        seen.update(pair)
        found.append((*pair, round(float(links.likeness[at]), 6)))
        if len(found) == MAX_PAIRS:
            break
    return tuple(found)
