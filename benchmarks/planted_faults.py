"""How many planted faults does `find_problems` find, and how often does it cry wolf?

Faults of 19 kinds are planted into real tables, one at a time, and the search runs on each spoilt
table; on the tables as they are it must stay silent. The 20th kind of the usual list, a foreign
key without its row, needs two tables and is not measured here.

    python benchmarks/planted_faults.py --held-out --out benchmarks/results/planted_faults.json

The checks were written and mended while looking at the first set of tables under seeds 1 to 8. The
second set (`--held-out`) was first run when the checks were done, with seeds 101 to 103: 301 of 312
faults found (96.5 %), one warning on 86 columns (the daylight saving jump now in `KNOWN`). Ten of
the eleven misses were dates swapped in series of a few weeks; that check was then mended, so its
share on the second set is not a blind one any more. The kept results are of seeds 201 to 203.

A fault counts as found when a finding of severity `warning` or `error`, of a kind that names this
fault and on the right column, is there that the table did not have before.
A false alarm is a warning on a table as it is. Warnings that state a fact which the script proves
again with its own code (equal rows, equal columns) and faults that the table's own description
admits (`KNOWN`) are counted apart.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from leaks_tables import ADULT, DATA

from loopline.data.clean import Finding, find_problems
from loopline.data.inference import infer_schema
from loopline.data.schema import Column, Schema

# What the tables' own descriptions admit, or what their publishers document.
KNOWN = {
    ("adult", "sentinel", "capital-gain"): "99999 is the census bureau's top code",
    (
        "machine_temperature_system_failure",
        "clock_shift",
        "timestamp",
    ): "the description admits jumps of daylight saving time",
}


@dataclass(frozen=True)
class Table:
    """A real table with its schema."""

    name: str
    frame: pl.DataFrame
    schema: Schema


def tables() -> list[Table]:
    adult = pl.read_csv(
        DATA / "adult/adult.data", has_header=False, new_columns=ADULT, null_values=[" ?", "?"]
    ).with_columns(pl.col(pl.String).str.strip_chars())
    numbers = ["age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
    adult = adult.with_columns(pl.col(numbers).cast(pl.Int64))
    adult = adult.filter(pl.col("income").is_not_null())  # the file ends with a blank line
    telco = pl.read_csv(DATA / "telco_churn/Telco-Customer-Churn.csv", null_values=" ")
    bike = pl.read_csv(DATA / "bike_sharing/hour.csv", try_parse_dates=True)
    mammography = pl.read_csv(DATA / "mammography/mammography.csv", has_header=False)
    ett = pl.read_csv(DATA / "ett_h1/ETTh1.csv", try_parse_dates=True)
    taxi = pl.read_csv(DATA / "nab_known_cause/nyc_taxi.csv", try_parse_dates=True)
    sms = pl.read_csv(DATA / "sms_spam/smsspamcollection.tsv", separator="\t", quote_char=None)
    named = [
        ("adult", adult, "income"),
        ("telco", telco, "Churn"),
        ("bike_sharing", bike, "cnt"),
        ("ett_h1", ett, "OT"),
        (
            "california_housing",
            pl.read_csv(DATA / "california_housing/housing.csv"),
            "median_house_value",
        ),
        (
            "parkinsons",
            pl.read_csv(
                DATA / "parkinsons_telemonitoring/parkinsons_updrs.csv", infer_schema_length=None
            ),
            "total_UPDRS",
        ),
        (
            "wine_quality",
            pl.read_csv(DATA / "wine_quality/wine_quality.csv", infer_schema_length=None),
            "quality",
        ),
        (
            "titanic",
            pl.read_csv(DATA / "titanic/titanic.csv", infer_schema_length=None),
            "survived",
        ),
        ("elec2", pl.read_csv(DATA / "elec2_drift/elec.csv", infer_schema_length=None), "class"),
        ("mammography", mammography, mammography.columns[-1]),
        ("nyc_taxi", taxi, "value"),
        ("sms_spam", sms, "label"),
        ("banking77", pl.read_csv(DATA / "banking77/train.csv"), "category"),
    ]
    return [Table(name, frame, infer_schema(frame, target=target)) for name, frame, target in named]


def held_out_tables() -> list[Table]:
    """Real tables that nobody looked at while the checks were written."""
    day = pl.read_csv(DATA / "bike_sharing/day.csv", try_parse_dates=True)
    higgs = pl.read_csv(
        DATA / "lightgbm_examples/binary_classification/binary.train",
        separator="\t",
        has_header=False,
        infer_schema_length=None,
    )
    named = [("bike_day", day, "cnt"), ("higgs", higgs, higgs.columns[0])]
    for name in ("concrete", "energy", "yacht"):
        numbers = np.loadtxt(DATA / "uci_splits_small" / name / "data.txt")
        used = np.loadtxt(DATA / "uci_splits_small" / name / "index_features.txt", dtype=int)
        answer = int(np.loadtxt(DATA / "uci_splits_small" / name / "index_target.txt", dtype=int))
        frame = pl.DataFrame({f"f{k}": numbers[:, k] for k in [*used.tolist(), answer]})
        named.append((name, frame, frame.columns[-1]))
    for path in sorted((DATA / "nab_known_cause").glob("*.csv")):
        if path.stem != "nyc_taxi":
            named += [(path.stem, pl.read_csv(path, try_parse_dates=True), "value")]
    for name, target in (("daily-min-temperatures", "Temp"), ("airline-passengers", "Passengers")):
        path = DATA / "small_series" / f"{name}.csv"
        named.append((name, pl.read_csv(path, try_parse_dates=True), target))
    return [Table(name, frame, infer_schema(frame, target=target)) for name, frame, target in named]


# --- the faults: each gives the spoilt table and where a finding must point ---------------------

Planted = tuple[pl.DataFrame, tuple[str, ...]] | None
Fault = Callable[[Table, np.random.Generator], Planted]


def _features(table: Table, *types: str) -> list[str]:
    return [c.name for c in table.schema.columns if c.role == "feature" and c.type in types]


def _pick(rng: np.random.Generator, names: list[str]) -> str | None:
    return None if not names else names[int(rng.integers(len(names)))]


def _some(rng: np.random.Generator, num_rows: int, low: float = 0.003, high: float = 0.03):
    """A random part of the rows, scattered or in one stretch."""
    count = max(5, int(num_rows * rng.uniform(low, high)))
    if rng.random() < 0.5:
        return np.sort(rng.choice(num_rows, count, replace=False))
    start = int(rng.integers(num_rows - count))
    return np.arange(start, start + count)


def _put(frame: pl.DataFrame, name: str, rows: np.ndarray, values: list) -> pl.DataFrame:
    cells = frame[name].to_list()
    for row, value in zip(rows.tolist(), values, strict=True):
        cells[row] = value
    whole = frame[name].dtype.is_integer() and all(isinstance(v, int | None) for v in values)
    dtype = frame[name].dtype
    if dtype.is_integer() and not whole:
        dtype = pl.String if any(isinstance(v, str) for v in values) else pl.Float64
    if dtype.is_float() and any(isinstance(v, str) for v in values):
        dtype = pl.String
    if dtype == pl.String:
        cells = [cell if cell is None or isinstance(cell, str) else str(cell) for cell in cells]
    return frame.with_columns(pl.Series(name, cells, dtype=dtype))


def _numbers(table: Table, narrower: float) -> list[str]:
    """Positive measured columns whose middle 98 % span less than so many decades."""
    names = []
    for name in _features(table, "number"):
        x = table.frame[name].drop_nulls().cast(pl.Float64).to_numpy()
        x = x[x > 0]
        if len(x) > 0.9 * len(table.frame) and len(np.unique(x)) >= 5:
            low, high = np.quantile(x, [0.01, 0.99])
            if np.log10(high / low) < narrower:
                names.append(name)
    return names


def unit_change(table: Table, rng: np.random.Generator) -> Planted:
    name = _pick(rng, _numbers(table, 2.0))
    if name is None:
        return None
    rows = _some(rng, len(table.frame), 0.02, 0.3)
    values = [None if v is None else v * 1000 for v in table.frame[name].gather(rows).to_list()]
    return _put(table.frame, name, rows, values), (name,)


def swapped_columns(table: Table, rng: np.random.Generator) -> Planted:
    """Two columns of one type with different values change places in some rows."""
    pairs = []
    numbers = [n for n in _features(table, "number") if table.frame[n].n_unique() >= 20]
    for i, a in enumerate(numbers):
        for b in numbers[i + 1 :]:
            (al, ah), (bl, bh) = (
                np.quantile(table.frame[n].drop_nulls().cast(pl.Float64).to_numpy(), [0.02, 0.98])
                for n in (a, b)
            )
            wide = max(ah - al, bh - bl)
            if al > bh + wide * 0.5 or bl > ah + wide * 0.5:
                pairs.append((a, b))
    words = [n for n in _features(table, "category") if table.frame[n].dtype == pl.String]
    levels = {n: set(table.frame[n].drop_nulls().unique()) for n in words}
    pairs += [
        (a, b)
        for i, a in enumerate(words)
        for b in words[i + 1 :]
        if not levels[a] & levels[b] and min(len(levels[a]), len(levels[b])) > 1
    ]
    if not pairs:
        return None
    a, b = pairs[int(rng.integers(len(pairs)))]
    rows = _some(rng, len(table.frame))
    left, right = table.frame[a].gather(rows).to_list(), table.frame[b].gather(rows).to_list()
    return _put(_put(table.frame, a, rows, right), b, rows, left), (a, b)


def _times(table: Table) -> list[str]:
    return [n for n in table.frame.columns if table.frame[n].dtype.is_temporal()]


def day_first(table: Table, rng: np.random.Generator) -> Planted:
    """A stretch of the file whose dates were read day first: days to the 12th change places."""
    name = _pick(rng, _times(table))
    if name is None:
        return None
    count = int(len(table.frame) * rng.uniform(0.2, 1.0))
    start = int(rng.integers(len(table.frame) - count + 1))
    values = table.frame[name].to_list()
    for row in range(start, start + count):
        if values[row].day <= 12:
            values[row] = values[row].replace(month=values[row].day, day=values[row].month)
    return table.frame.with_columns(pl.Series(name, values, dtype=table.frame[name].dtype)), (name,)


def timezone_shift(table: Table, rng: np.random.Generator) -> Planted:
    names = [n for n in _times(table) if isinstance(table.frame[n].dtype, pl.Datetime)]
    name = _pick(rng, names)
    if name is None:
        return None
    rows = np.arange(len(table.frame))
    start = int(rng.integers(len(rows) // 2))
    stop = start + int(rng.integers(len(rows) // 20, len(rows) // 3))
    hours = int(rng.choice([-8, -5, -2, -1, 1, 2, 5, 8]))
    inside = pl.Series((rows >= start) & (rows < stop))
    shifted = pl.when(inside).then(pl.col(name) + pl.duration(hours=hours)).otherwise(pl.col(name))
    return table.frame.with_columns(shifted.alias(name)), (name,)


def future_times(table: Table, rng: np.random.Generator) -> Planted:
    name = _pick(rng, _times(table))
    if name is None:
        return None
    rows = _some(rng, len(table.frame), 0.001, 0.01)
    years = int(rng.integers(5, 60))
    cells = [
        v.replace(year=v.year + years, day=min(v.day, 28)) for v in table.frame[name].gather(rows)
    ]
    return _put(table.frame, name, rows, cells), (name,)


def sentinel(table: Table, rng: np.random.Generator) -> Planted:
    name = _pick(rng, _features(table, "number"))
    if name is None:
        return None
    rows = _some(rng, len(table.frame))
    return _put(table.frame, name, rows, [-999] * len(rows)), (name,)


def mojibake(table: Table, rng: np.random.Generator) -> Planted:
    """Accents come into some values, which are then decoded with the wrong code page."""
    name = _pick(
        rng, [n for n in _features(table, "category", "text") if table.frame[n].dtype == pl.String]
    )
    if name is None:
        return None
    rows = _some(rng, len(table.frame))
    accents = {"a": "á", "e": "é", "o": "ö", "u": "ü", "i": "ï", "n": "ñ", "S": "Š"}
    page = "latin-1" if rng.random() < 0.5 else "cp1252"
    values, hit = [], 0
    for value in table.frame[name].gather(rows).to_list():
        accented = "".join(accents.get(c, c) for c in value) if value else value
        hit += accented != value
        values.append(accented.encode().decode(page, "replace") if accented else accented)
    return (_put(table.frame, name, rows, values), (name,)) if hit else None


def _words(table: Table) -> list[str]:
    return [
        n
        for n in _features(table, "category")
        if table.frame[n].dtype == pl.String and table.frame[n].str.len_chars().max() > 1
    ]


def category_variants(table: Table, rng: np.random.Generator) -> Planted:
    name = _pick(rng, _words(table))
    if name is None:
        return None
    rows = _some(rng, len(table.frame))
    how = [str.upper, str.lower, lambda t: t + " ", lambda t: " " + t, lambda t: t + "."]
    changed = how[int(rng.integers(len(how)))]
    old = table.frame[name].gather(rows).to_list()
    new = [v if v is None or len(v) < 2 else changed(v) for v in old]
    return (_put(table.frame, name, rows, new), (name,)) if new != old else None


def duplicate_rows(table: Table, rng: np.random.Generator) -> Planted:
    rows = _some(rng, len(table.frame))
    return pl.concat([table.frame, table.frame[rows]])[
        rng.permutation(len(table.frame) + len(rows))
    ], ()


def truncated_file(table: Table, rng: np.random.Generator) -> Planted:
    """The last line ends in the middle; the cells that it lacks are missing."""
    if table.frame.width < 4:
        return None
    cut = int(rng.integers(1, table.frame.width - 2))
    lost = table.frame.columns[cut:]
    last = table.frame.tail(1).with_columns(
        pl.lit(None, table.frame[n].dtype).alias(n) for n in lost
    )
    return pl.concat([table.frame.head(-1), last]), ()


def type_flip(table: Table, rng: np.random.Generator) -> Planted:
    """From some row on, numbers come as text with a unit, a sign or a word."""
    names = [n for n in _features(table, "number") if table.frame[n].n_unique() > 12]
    name = _pick(rng, names)
    if name is None:
        return None
    start = int(len(table.frame) * rng.uniform(0.7, 0.97))
    form = ["{} kg", "#{}", "v{}", "{} units", "~{}"][int(rng.integers(5))]
    rows = np.arange(start, len(table.frame))
    values = [
        None if v is None else form.format(v) for v in table.frame[name].gather(rows).to_list()
    ]
    return _put(table.frame, name, rows, values), (name,)


def nan_burst(table: Table, rng: np.random.Generator) -> Planted:
    name = _pick(rng, _features(table, "number", "category"))
    if name is None:
        return None
    count = max(20, int(len(table.frame) * rng.uniform(0.01, 0.1)))
    start = int(rng.integers(len(table.frame) - count))
    rows = np.arange(start, start + count)
    return _put(table.frame, name, rows, [None] * count), (name,)


def constant_column(table: Table, rng: np.random.Generator) -> Planted:
    name = _pick(rng, _features(table, "number", "category"))
    if name is None:
        return None
    value = table.frame[name].drop_nulls()[0]
    return table.frame.with_columns(pl.lit(value, table.frame[name].dtype).alias(name)), (name,)


def negative_ages(table: Table, rng: np.random.Generator) -> Planted:
    names = [
        n
        for n in _features(table, "number")
        if any(
            w in n.lower()
            for w in ("age", "hours", "tenure", "charges", "population", "rooms", "fare", "value")
        )
        and (table.frame[n].drop_nulls().cast(pl.Float64).to_numpy() >= 0).all()
    ]
    name = _pick(rng, names)
    if name is None:
        return None
    rows = _some(rng, len(table.frame), 0.001, 0.01)
    values = [None if not v else -v for v in table.frame[name].gather(rows).to_list()]
    return _put(table.frame, name, rows, values), (name,)


def cardinality_burst(table: Table, rng: np.random.Generator) -> Planted:
    name = _pick(rng, _words(table))
    if name is None:
        return None
    rows = _some(rng, len(table.frame), 0.02, 0.1)
    values = [f"{rng.integers(16**8):08x}" for _ in rows]
    return _put(table.frame, name, rows, values), (name,)


def _with_ids(table: Table, values: list, dtype=None) -> tuple[Table, str]:
    frame = table.frame.with_columns(pl.Series("account_id", values, dtype=dtype))
    columns = (*table.schema.columns, Column("account_id", "text", "id"))
    return Table(
        table.name, frame, Schema(columns, table.schema.task, table.schema.classes)
    ), "account_id"


def key_not_unique(table: Table, rng: np.random.Generator) -> Planted:
    ids = (10**6 + rng.permutation(len(table.frame))).tolist()
    spoilt, name = _with_ids(table, ids)
    rows = _some(rng, len(table.frame))
    return _put(spoilt.frame, name, rows, [ids[int(r) - 1] for r in rows]), (name,)


def injection(table: Table, rng: np.random.Generator) -> Planted:
    """A line break or a spreadsheet formula inside a value."""
    name = _pick(
        rng, [n for n in _features(table, "category", "text") if table.frame[n].dtype == pl.String]
    )
    if name is None:
        return None
    rows = _some(rng, len(table.frame), 0.001, 0.01)
    old = [v or "x" for v in table.frame[name].gather(rows).to_list()]
    prose = table.schema.named(name).type == "text"
    forms = ['=HYPERLINK("http://x.example","{}")', "@SUM(1+1)*cmd|'{}'", "+cmd|'/C calc'!A0 {}"]
    if not prose:
        forms += ["{}\nnext line", "{0}\r\n{0}"]
    form = forms[int(rng.integers(len(forms)))]
    return _put(table.frame, name, rows, [form.format(v) for v in old]), (name,)


def leading_zeros(table: Table, rng: np.random.Generator) -> Planted:
    """Ids of eight digits of which a part went through a number and lost its zeros."""
    ids = rng.choice(10**8, len(table.frame), replace=False)
    rows = set(_some(rng, len(table.frame), 0.1, 0.5).tolist())
    texts = [str(v) if i in rows else f"{v:08d}" for i, v in enumerate(ids.tolist())]
    if not any(len(texts[i]) < 8 for i in rows):
        return None
    spoilt, name = _with_ids(table, texts)
    return spoilt.frame, (name,)


def rounded_ids(table: Table, rng: np.random.Generator) -> Planted:
    """Ids of 18 digits that went through Float64, and stayed so or were made integers again."""
    ids = rng.integers(10**17, 9 * 10**17, len(table.frame)).astype(np.float64)
    values = ids.tolist() if rng.random() < 0.5 else [int(v) for v in ids]
    spoilt, name = _with_ids(table, values)
    return spoilt.frame, (name,)


# fault -> (how it is planted, the kinds of finding that name it)
FAULTS: dict[str, tuple[Fault, tuple[str, ...]]] = {
    "unit change x1000": (unit_change, ("unit_change",)),
    "swapped columns": (swapped_columns, ("swapped_columns",)),
    "date read day first": (day_first, ("day_first",)),
    "encoding mojibake": (mojibake, ("mojibake",)),
    "sentinel -999": (sentinel, ("sentinel",)),
    "category case/space variants": (category_variants, ("spelling", "edge_blanks")),
    "duplicate rows": (duplicate_rows, ("duplicate_rows",)),
    "truncated file": (truncated_file, ("truncated_tail",)),
    "type flip int to str": (type_flip, ("mixed_types",)),
    "time zone shift": (timezone_shift, ("clock_shift",)),
    "missing burst": (nan_burst, ("missing_burst",)),
    "constant column": (constant_column, ("constant",)),
    "negative ages": (negative_ages, ("negative",)),
    "cardinality burst": (cardinality_burst, ("cardinality_burst",)),
    "key not unique": (key_not_unique, ("key_not_unique",)),
    "future timestamps": (future_times, ("future_times",)),
    "embedded newline / CSV injection": (injection, ("embedded_newline", "formula")),
    "leading-zero ids": (leading_zeros, ("leading_zeros",)),
    "float-rounded int64 ids": (rounded_ids, ("rounded_ids", "key_not_unique")),
}


def _loud(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity != "info"]


def _schema_for(spoilt: pl.DataFrame, table: Table) -> Schema:
    """The schema of the clean table, with the id column that a fault may have added."""
    new = [Column(n, "text", "id") for n in spoilt.columns if n not in table.frame.columns]
    return Schema((*table.schema.columns, *new), table.schema.task, table.schema.classes)


def found(
    table: Table,
    planted: tuple[pl.DataFrame, tuple[str, ...]],
    kinds: tuple[str, ...],
    before: dict,
) -> bool:
    spoilt, columns = planted
    for finding in _loud(find_problems(spoilt, _schema_for(spoilt, table))):
        right = finding.kind in kinds and (not columns or set(columns) & set(finding.columns))
        if right and finding.count != before.get((finding.kind, finding.columns)):
            return True
    return False


def torn_rows(table: Table) -> int:
    """Rows that share all features with a row of another answer."""
    names = [c.name for c in table.schema.columns if c.role in ("feature", "group", "time")]
    answers = defaultdict(set)
    keys = list(table.frame.select(names).iter_rows())
    for key, answer in zip(keys, table.frame[table.schema.target].to_list(), strict=True):
        answers[key].add(answer)
    return sum(len(answers[key]) > 1 for key in keys)


def false_alarms(table: Table) -> dict[str, list[str]]:
    """Warnings on the table as it is: facts proved again, faults admitted, and the rest."""
    sorted_out: dict[str, list[str]] = {"proved": [], "known": [], "false": []}
    rows = list(zip(*(table.frame[n].to_list() for n in table.frame.columns), strict=True))
    for finding in _loud(find_problems(table.frame, table.schema)):
        text = f"{table.name}: {finding.sentence}"
        if finding.kind == "duplicate_rows":
            key = "proved" if len(rows) - len(set(rows)) == finding.count else "false"
        elif finding.kind in ("renamed_column", "duplicate_column"):
            pairs = set(table.frame.select(finding.columns).iter_rows())
            sizes = {table.frame[name].n_unique() for name in finding.columns}
            key = "proved" if sizes == {len(pairs)} else "false"
        elif finding.kind == "label_disagreement":
            key = "proved" if torn_rows(table) == finding.count else "false"
        elif finding.kind == "mojibake":
            # U+0080 to U+009F are control characters that no keyboard types.
            cells = table.frame[finding.columns[0]].drop_nulls().to_list()
            wrong = sum(any("\x80" <= char <= "\x9f" for char in cell) for cell in cells)
            key = "proved" if wrong == finding.count else "false"
        else:
            key = (
                "known"
                if any((table.name, finding.kind, c) in KNOWN for c in finding.columns)
                else "false"
            )
        sorted_out[key].append(text)
    return sorted_out


def measure(chosen: list[Table], seeds: list[int]) -> dict:
    """Recall by fault and false alarms of one set of tables."""
    hits: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    missed = []
    alarms: dict[str, list[str]] = defaultdict(list)
    for table in chosen:
        clean = _loud(find_problems(table.frame, table.schema))
        before = {(finding.kind, finding.columns): finding.count for finding in clean}
        for index, (fault, (plant, kinds)) in enumerate(FAULTS.items()):
            for seed in seeds:
                rng = np.random.default_rng([seed, index, len(table.frame)])
                planted = plant(table, rng)
                if planted is None:
                    continue
                ok = found(table, planted, kinds, before)
                hits[fault][0] += ok
                hits[fault][1] += 1
                if not ok:
                    missed.append(f"{table.name}, seed {seed}: {fault} in {planted[1]}")
        for key, texts in false_alarms(table).items():
            alarms[key] += texts
    num_columns = sum(table.frame.width for table in chosen)
    num_found, num_planted = (sum(pair[k] for pair in hits.values()) for k in (0, 1))
    return {
        "tables": {table.name: list(table.frame.shape) for table in chosen},
        "found": num_found,
        "planted": num_planted,
        "recall": round(num_found / num_planted, 4),
        "recall_by_fault": {f: hits[f] for f in FAULTS},
        "clean_columns": num_columns,
        "false_alarms_per_100_columns": round(100 * len(alarms["false"]) / num_columns, 3),
        "warnings_on_clean_tables": dict(alarms),
        "missed": missed,
    }


def show(name: str, result: dict) -> None:
    print(f"== {name}: {len(result['tables'])} tables, {result['clean_columns']} columns")
    for fault, (n, of) in result["recall_by_fault"].items():
        print(f"{fault:36} {n:4} of {of:4}" + (f"  {n / of:7.1%}" if of else ""))
    print(f"{'all':36} {result['found']:4} of {result['planted']:4}  {result['recall']:7.1%}")
    print(f"false alarms per 100 clean columns: {result['false_alarms_per_100_columns']}")
    for key, texts in [*result["warnings_on_clean_tables"].items(), ("missed", result["missed"])]:
        print(f"{key}: {len(texts)}", *texts, sep="\n  ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[201, 202, 203])
    parser.add_argument("--held-out", action="store_true", help="the unseen tables too")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    started = time.perf_counter()
    result = {"seeds": arguments.seeds, "seen": measure(tables(), arguments.seeds)}
    show("tables seen in development", result["seen"])
    if arguments.held_out:
        result["held_out"] = measure(held_out_tables(), arguments.seeds)
        show("held-out tables", result["held_out"])
    result["seconds"] = round(time.perf_counter() - started, 1)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
