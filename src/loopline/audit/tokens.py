"""Words that give the class away: agencies' marks, headers, footers, template phrases."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.finding import Finding, Remedy
from loopline.data.schema import has_classes
from loopline.splits.views import TrainView

Ints = NDArray[np.int64]
SAMPLE_ROWS = 10_000
MAX_CHARS = 4_000
MIN_TEXTS = 20
TOLD = 0.7
"""Share of a class's texts with a token, less the share of the others', that is told."""
HEAD_CHARS = 200
PLACED = 0.8
_PIECE = re.compile(r"\([^\s()]{2,30}\)|<[^<>\s]{1,30}>|[\w@./:-]*\w")


@dataclass(frozen=True)
class TokenSkill:
    """A token and the class that it marks.

    Args:
        token: as it stands in the texts, in lower case.
        code: the class.
        inside: share of that class's texts that hold it.
        outside: share of the other texts that hold it.
        texts: texts that hold it.
        placed: share of these that hold it within their first or last `HEAD_CHARS` characters.
        rows: a few of them, as positions in the view.
    """

    token: str
    code: int
    inside: float
    outside: float
    texts: int
    placed: float
    rows: tuple[int, ...]


def token_findings(view: TrainView) -> list[Finding]:
    """A warning for each text column in which one token nearly decides the class.

    Args:
        view: training rows of a classification.
    """
    if not has_classes(view.schema.task):
        return []
    columns = [
        column.name
        for column in view.schema.columns
        if column.role == "feature" and column.type == "text"
    ]
    found = []
    for name in columns:
        best = strongest_token(view, name)
        if best is not None:
            found.append(_finding(view, name, best))
    return found


def strongest_token(view: TrainView, name: str) -> TokenSkill | None:
    """The token that comes nearest to deciding a class, when it comes near enough.

    Args:
        view: training rows of a classification.
        name: a text column.
    """
    sample = view.sample(SAMPLE_ROWS, 0)
    texts = sample.column(name).cast(pl.String).fill_null("").to_list()
    texts = [text if len(text) <= MAX_CHARS else _ends(text) for text in texts]
    codes = np.asarray(sample.target, dtype=np.int64)
    counts = np.bincount(codes)
    classes = [int(code) for code in np.argsort(-counts, kind="stable")[:20] if
               counts[code] >= MIN_TEXTS]  # fmt: skip
    if len(classes) < 2:
        return None
    table: dict[str, Ints] = {}
    for text, code in zip(texts, codes.tolist(), strict=True):
        for token in set(_PIECE.findall(text.lower())):
            row = table.get(token)
            if row is None:
                row = table[token] = np.zeros(counts.size, dtype=np.int64)
            row[code] += 1
    best: tuple[float, str, int] | None = None
    for token, row in table.items():
        total = int(row.sum())
        if total < MIN_TEXTS:
            continue
        for code in classes:
            inside = row[code] / counts[code]
            outside = (total - row[code]) / max(1, codes.size - counts[code])
            apart = float(inside - outside)
            if apart >= TOLD and (best is None or (apart, token) > best[:2]):
                best = (apart, token, code)
    if best is None:
        return None
    return _described(texts, codes, best[1], best[2])


def _ends(text: str) -> str:
    return f"{text[: MAX_CHARS // 2]} {text[-MAX_CHARS // 2 :]}"


def _described(texts: list[str], codes: Ints, token: str, code: int) -> TokenSkill:
    holds = np.asarray([token in set(_PIECE.findall(text.lower())) for text in texts])
    rows = np.flatnonzero(holds)
    placed = [
        token in texts[row][:HEAD_CHARS].lower() or token in texts[row][-HEAD_CHARS:].lower()
        for row in rows
    ]
    mine = codes == code
    return TokenSkill(
        token=token,
        code=code,
        inside=float(holds[mine].mean()),
        outside=float(holds[~mine].mean()),
        texts=int(rows.size),
        placed=float(np.mean(placed)),
        rows=tuple(int(row) for row in rows[:5]),
    )


def _finding(view: TrainView, name: str, best: TokenSkill) -> Finding:
    sample = view.sample(SAMPLE_ROWS, 0)
    label = view.schema.classes[best.code]
    where = " at their beginning or end" if best.placed >= PLACED else ""
    text = (
        f"{best.token!r} stands in {best.inside:.1%} of the texts of class {label!r} in {name!r} "
        f"and in {best.outside:.1%} of all others{where}: a model will learn this mark in place of "
        "what the texts say."
    )
    texts = sample.column(name).cast(pl.String).fill_null("")
    return Finding(
        check="tokens",
        severity="warning",
        sentence=text,
        columns=(name,),
        num_rows=best.texts,
        share=best.texts / sample.num_rows,
        rows=tuple(int(sample.positions[row]) for row in best.rows),
        examples=tuple({name: texts[row][:HEAD_CHARS], "class": label} for row in best.rows),
        confidence=round(0.5 + 0.25 * (best.inside - best.outside) + 0.2 * best.placed, 3),
        remedy=Remedy(
            f"If {best.token!r} comes from how the texts were collected, cut it out of {name!r} "
            "before training."
        ),
        facts={
            "token": best.token,
            "class": label,
            "inside": round(best.inside, 4),
            "outside": round(best.outside, 4),
            "at_the_ends": round(best.placed, 4),
        },
    )
