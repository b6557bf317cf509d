"""Checks of text columns: spellings, blanks, codes for missing, broken encodings, stray types."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict

import numpy as np
import polars as pl

from loopline.data.cleaning.column import CELL, ColumnView, block_bounds
from loopline.data.cleaning.finding import Finding, quoted
from loopline.data.cleaning.repair import BLANKS, NUMBER, Cell, Repair

# Marks stand for "no value" wherever they stand alone; words may be an answer of their own.
MARKS = ("?", "??", "-", "--", ".", "n/a", "#n/a", "na", "n.a.", "nan", "null", "nil", "<na>")
WORDS = ("unknown", "missing", "none", "not available", "not applicable", "undefined", "tbd")
LEVELS_LIMIT = 200_000
_EDGES = BLANKS + ".,;:!'\"`´’‘“”"
# UTF-8 read as Latin-1 or Windows-1252: a lead byte's letter and a continuation byte's sign.
_TAIL = (
    "[\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d"
    "\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]"
)
MOJIBAKE = (
    f"[\u00c2-\u00c5\u00ce-\u00d1]{_TAIL}|\u00e2{_TAIL}{_TAIL}"
    f"|\u00f0\u0178{_TAIL}|\u00ef\u00bb\u00bf|[\u0080-\u009f\ufffd]"
)
FORMULA = (
    r"^[\t ]*(=\s*[A-Za-z@+\-(][A-Za-z0-9_.]*\s*[(!|]|[+\-@]\s*[A-Za-z]+[A-Za-z0-9_.]*\s*[(!|])"
)


def is_text(view: ColumnView) -> bool:
    """Whether the cells are strings."""
    return view.values.dtype == pl.String


def is_category(view: ColumnView) -> bool:
    """Whether the cells are strings that name one of some levels."""
    return is_text(view) and view.column.type in ("category", "boolean")


def find_empty(view: ColumnView) -> list[Finding]:
    """Empty or blank text where a missing cell may be meant."""
    if not is_text(view):
        return []
    empty = view.where(CELL.str.strip_chars(BLANKS) == "")
    if not empty.any():
        return []
    spellings = view.values.filter(empty).unique().sort().to_list()
    repair = Repair.replace(view.name, [(text, None) for text in spellings], "blank: made missing")
    sentence = f"Column {view.name!r} holds blank text in {{}}, which is not the same as missing."
    return [view.found("empty_text", empty, sentence, repair=repair)]


def find_mixed_types(view: ColumnView) -> list[Finding]:
    """A text column most of whose values are numbers, or a part of whose rows is."""
    if not is_text(view) or view.column.role in ("id", "group"):
        return []
    cell = CELL.str.strip_chars(BLANKS)
    number = view.where(cell.str.contains(NUMBER))
    count = int(number.sum())
    if not count:
        return []
    blank = view.where(cell.str.to_lowercase().is_in(["", *MARKS, *WORDS]))
    other = ~number & ~blank & ~view.is_missing
    known = count + int(other.sum())
    share = count / known
    if share < 0.2 or (known == count and not blank.any() and view.column.type != "number"):
        return []
    many = view.values.filter(number).n_unique() > 10
    if not many and not other.any():
        return []  # a few codes written as digits: a category
    if not many and share < 0.9:
        return []
    if not other.any() and not blank.any():
        return []
    strange = other | (
        blank if not other.any() else pl.Series([False]).new_from_index(0, view.num_rows)
    )
    values = view.values.filter(strange).unique(maintain_order=True).head(4).to_list()
    numbers = f"{count / (count + int(strange.sum())):.1%} of its values are numbers"
    sentence = f"Column {view.name!r} is text, but {numbers}; not so in {{}} ({quoted(values)})."
    repair = Repair.to_number(view.name, "mostly numbers; the rest becomes missing")
    return [view.found("mixed_types", strange, sentence, repair=repair)]


def find_placeholders(view: ColumnView) -> list[Finding]:
    """Words and marks that stand for "no value"."""
    if not is_text(view) or view.column.role == "target":
        return []
    lower = CELL.str.strip_chars(BLANKS).str.to_lowercase()
    mark = view.where(lower.is_in(list(MARKS)))
    word = view.where(lower.is_in(list(WORDS)))
    if not mark.any() and not word.any():
        return []
    where = mark | word
    values = view.values.filter(where).unique().sort().to_list()
    # In free text and where every row says so, the word is what was written.
    plain = view.column.type == "text" or not mark.any() or where.all()
    sentence = f"Column {view.name!r} says {quoted(values)} in {{}}, which may be meant as missing."
    repair = Repair.replace(view.name, [(value, None) for value in values], "word for missing")
    return [view.found("sentinel", where, sentence, "info" if plain else "warning", repair)]


def find_spellings(view: ColumnView) -> list[Finding]:
    """Levels of a category that are one level but for case, blanks, unicode form or punctuation.

    The level that stays is picked by a rule over the spellings themselves (see `canonical`), never
    by how often each occurs, so no row outside the training set has a say in it.
    """
    if not is_category(view) or view.column.role == "id":
        return []
    levels = view.values.drop_nulls().unique().sort() if view.levels is None else view.levels
    if len(levels) > LEVELS_LIMIT:
        return []
    groups: dict[str, list[str]] = defaultdict(list)
    for level in levels.to_list():
        key = spelling_key(level)
        if key:
            groups[key].append(level)
    mapping: list[tuple[Cell, Cell]] = []
    for _, group in sorted(groups.items()):
        if len(group) > 1:
            best = canonical(group)
            mapping += [(level, best) for level in group if level != best]
    if not mapping:
        return []
    where = view.where(CELL.is_in([str(old) for old, _ in mapping]))
    shown = ", ".join(f"{old!r} is {new!r}" for old, new in mapping[:3])
    more = " …" if len(mapping) > 3 else ""
    sentence = f"Column {view.name!r} spells levels differently in {{}}: {shown}{more}."
    repair = Repair.replace(view.name, mapping, "one spelling for each level")
    return [view.found("spelling", where, sentence, repair=repair)]


def spelling_key(level: str) -> str:
    """What two spellings of one level have in common.

    Compatible unicode form, case folded (not for single characters: ``m`` and ``M`` may be two
    levels), runs of blanks, hyphens and underscores between letters as one blank, points between
    letters and punctuation at the ends left out. Signs with a meaning (``<=>+%&/#*``, a minus at an
    end, anything between digits) stay, and so do numbers as they are.

    >>> spelling_key(" U.S.A. "), spelling_key("never_married"), spelling_key("A-")
    ('usa', 'never married', 'A-')
    """
    text = unicodedata.normalize("NFKC", level)
    if re.match(NUMBER, text.strip(BLANKS)):
        return text.strip(BLANKS)
    text = text.strip(_EDGES)
    text = re.sub(r"(?<=[^\W\d_])\.(?=[^\W\d_])", "", text)
    text = re.sub(r"(?<=[^\W\d_])[\s_\-]+(?=[^\W\d_])", " ", text)
    text = re.sub(r"\s+", " ", text)
    letters = sum(1 for char in text if char.isalpha())
    return text.casefold() if letters > 1 else text


def canonical(group: list[str]) -> str:
    """The spelling that a group of spellings is given, by a rule over the spellings alone.

    Blanks at the ends and doubled inside are taken away first. Then: no punctuation at an end
    before some, spaces before underscores or hyphens, Capitalised before lower before UPPER case,
    and the first in code order.

    >>> canonical(["YES", "yes ", "Yes."])
    'yes'
    """
    tidy = {" ".join(unicodedata.normalize("NFC", level).strip(BLANKS).split()) for level in group}
    return min(tidy, key=_rank)


def _rank(level: str) -> tuple[bool, bool, bool, int, str]:
    odd = unicodedata.normalize("NFKC", level) != level
    ends = level != level.strip(_EDGES)
    joined = "_" in level or re.search(r"[^\W\d]-+[^\W\d]", level) is not None
    if level == level.lower():
        case = 1
    elif level == level.upper():
        case = 2
    else:
        case = 0 if level[:1].isupper() or not level[:1].isalpha() else 3
    return (odd, ends, joined, case, level)


def find_edge_blanks(view: ColumnView) -> list[Finding]:
    """Blanks around the values of a category: ` Private` will not equal `Private`."""
    if not is_category(view) and not (is_text(view) and view.column.role in ("id", "group")):
        return []
    bare = CELL.str.strip_chars(BLANKS)
    blank = view.where((bare != CELL) & (bare != ""))
    if not blank.any():
        return []
    sentence = f"Column {view.name!r} has blanks around its value in {{}}."
    return [
        view.found("edge_blanks", blank, sentence, repair=Repair.strip(view.name, "edge blanks"))
    ]


def find_mojibake(view: ColumnView) -> list[Finding]:
    """Text whose encoding was guessed wrong: `CafÃ©`, or a character lost for good."""
    if not is_text(view):
        return []
    broken = view.where(CELL.str.contains(MOJIBAKE))
    if not broken.any():
        return []
    values = view.values.filter(broken).unique().sort().to_list()
    fixed = [(value, better) for value in values if (better := unscrambled(value)) != value]
    repair = Repair.replace(view.name, fixed, "encoding put right") if fixed else None
    shown = f" ({values[0]!r} may be {fixed[0][1]!r})" if fixed and fixed[0][0] == values[0] else ""
    if len(shown) > 120:
        shown = ""
    sentence = f"Column {view.name!r} holds wrongly decoded text in {{}}{shown}."
    return [view.found("mojibake", broken, sentence, repair=repair)]


def unscrambled(text: str) -> str:
    """The text with its bytes read again as what they seem to be, or the text itself.

    UTF-8 that was read as Windows-1252, or Windows-1252 that was read as Latin-1 (which has control
    characters where Windows-1252 has quotes and dashes).

    >>> unscrambled("CafÃ©")
    'Café'
    """
    raw = bytearray()
    controls = False
    for char in text:
        try:
            raw += char.encode("cp1252")
        except UnicodeEncodeError:
            if ord(char) > 255:
                return text
            controls = True
            raw.append(ord(char))  # the five bytes that Windows-1252 leaves undefined
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if not controls:
            return text
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:
        return text


def find_newlines(view: ColumnView) -> list[Finding]:
    """Line breaks inside a value, as a lost quote in a CSV file makes them."""
    if not is_text(view):
        return []
    breaks = view.where(CELL.str.strip_chars(BLANKS).str.contains("[\r\n\x00]"))
    if not breaks.any():
        return []
    usual = view.column.type == "text" and view.column.role == "feature"  # prose has lines
    sentence = f"Column {view.name!r} holds line breaks inside a value in {{}}."
    return [view.found("embedded_newline", breaks, sentence, "info" if usual else "warning")]


def find_formulas(view: ColumnView) -> list[Finding]:
    """Values that a spreadsheet would run as a formula when the table is exported."""
    if not is_text(view):
        return []
    formula = view.where(CELL.str.contains(FORMULA))
    if not formula.any():
        return []
    sentence = f"Column {view.name!r} holds what a spreadsheet would run as a formula in {{}}."
    return [view.found("formula", formula, sentence)]


def find_leading_zeros(view: ColumnView) -> list[Finding]:
    """Digits that start with zeros: one id may be written in two ways."""
    if not is_text(view):
        return []
    digits = view.where(CELL.str.contains("^[0-9]+$"))
    num_digits = int(digits.sum())
    if num_digits < 0.9 * (view.num_rows - view.num_missing):
        return []
    padded = view.where(CELL.str.contains("^0[0-9]+$"))
    if not padded.any():
        return []
    widths = view.values.filter(digits).str.len_bytes()
    width = int(widths.max())  # type: ignore[arg-type]  # never empty here
    short = (view.values.str.len_bytes() < width).fill_null(value=False) & digits
    if not short.any():
        sentence = (
            f"Column {view.name!r} has leading zeros in {{}}, all {width} digits long; it must be "
            "read as text, never as a number."
        )
        return [view.found("leading_zeros", padded, sentence, "info")]
    sentence = (
        f"Column {view.name!r} has leading zeros in {{}}, but its values differ in length: some "
        "may have lost their zeros, so one id may be written in two ways."
    )
    return [view.found("leading_zeros", padded, sentence)]


def find_cardinality_burst(view: ColumnView) -> list[Finding]:
    """Levels seen once in a category of few levels, scattered or in one stretch of the file."""
    if not is_text(view) or view.column.type == "text" or view.column.role == "id":
        return []
    known = view.values.drop_nulls()
    if len(known) < 100:
        return []
    counts = known.value_counts(name="rows").get_column("rows").to_numpy()
    once = int((counts == 1).sum())
    often = int((counts > 5).sum())
    between = len(counts) - once - often
    if once < 20 or often < 1 or once < 0.002 * len(known):
        return []
    covered = int(counts[counts > 5].sum()) / len(known)
    single = view.values.is_unique() & ~view.is_missing
    scattered = covered >= 0.5 and between <= 0.1 * once and often <= 0.25 * once + 50
    if not scattered and not _burst(single.to_numpy()):
        return []
    sentence = (
        f"Column {view.name!r} has a level of its own in {{}}, beside {often} levels that make up "
        f"{covered:.1%} of it: ids or free text may have slipped in."
    )
    return [view.found("cardinality_burst", single, sentence)]


def _burst(single: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> bool:
    bounds = block_bounds(len(single))
    if len(single) < 20 * len(bounds):
        return False
    shares = np.add.reduceat(single, bounds[:-1]) / np.diff(bounds)
    return bool(shares.max() > 0.5 and np.median(shares) < 0.05)
