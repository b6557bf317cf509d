"""What names and the look of values say of a column: who, when, a token, a date."""

from __future__ import annotations

import re

import polars as pl


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WHO = _listed(
    """
    subject subj patient customer cust client user household family session person people member
    account acct student participant respondent employee visitor donor animal device machine driver
    site store station vehicle speaker writer author street file source sensor batch plate
    """
)
_ID = re.compile(r"(^|[^a-z])(id|ids|uuid|guid|key|code|nr|no|number|name|hash)([^a-z]|$)")
_WHEN = re.compile(
    r"(^|[^a-z])(date|dt|day|week|weekday|month|quarter|year|yr|period|time|hour|hr|age)([^a-z]|$)"
)
_OPAQUE = (
    r"^(?:[A-Za-z]{0,8}[-_#:./]?\d{2,}|[0-9a-fA-F]{8,}|[0-9a-fA-F-]{32,36}|.*[/\\].*|"
    r"[A-Za-z]{1,3}\d[A-Za-z0-9]{3,})$"
)
_DATE = r"^\d{4}-\d{2}(-\d{2})?"


def who_is_named(name: str) -> bool:
    """Whether a column's name says that it names somebody or something.

    >>> [who_is_named(name) for name in ("patient_id", "customerID", "subject#", "age", "street")]
    [True, True, True, False, True]
    """
    words = re.findall(r"[a-z]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower())
    if any(word in _WHO for word in words):
        extra = [word for word in words if word not in _WHO]
        return not extra or bool(_ID.search(" ".join(words))) or "#" in name
    return bool(words) and words[-1] in ("id", "ids", "uuid", "guid")


def when_is_named(name: str) -> bool:
    """Whether a column's name says that it is a time or an age.

    >>> when_is_named("signup_week"), when_is_named("weekly_pay")
    (True, False)
    """
    return _WHEN.search(name.lower()) is not None


def looks_like_tokens(series: pl.Series) -> bool:
    """Whether words look like identifiers: letters and digits, hexadecimals, paths.

    >>> looks_like_tokens(pl.Series(["C-0012", "C-0345"])), looks_like_tokens(pl.Series(["red"]))
    (True, False)
    """
    if series.dtype != pl.String():
        return False
    cells = series.drop_nulls().unique(maintain_order=True).head(1000)
    return cells.len() > 0 and float(cells.str.contains(_OPAQUE).sum()) >= 0.9 * cells.len()


def looks_like_dates(series: pl.Series) -> bool:
    """Whether words are dates, the year first.

    >>> looks_like_dates(pl.Series(["2011-01-01", "2011-01-02"]))
    True
    """
    if series.dtype != pl.String():
        return False
    cells = series.drop_nulls().head(100)
    return cells.len() > 0 and bool(cells.str.contains(_DATE).all())
