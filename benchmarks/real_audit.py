"""What does the audit say of public tables whose traps are known, and what does a whole audit cost?

Each line is one trap that the data's own description names, with what the audit said of it when
nobody had told it anything. `tests/audit/test_real_tables.py` holds each of them as a test.

    python benchmarks/real_audit.py [--out benchmarks/results/real_audit.json] [--no-cost]

The cost is measured in a process of its own for each size: a table of 30 columns (22 numbers, 6
categories, an id and a date) is audited as by `loopline audit`, which gives freed memory back at
once. Memory is the peak above what the
process held, after a small audit had loaded every package, before the table was made.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from leaks_tables import ADULT, DATA

from loopline.audit.finding import Finding
from loopline.audit.price import Pricing, price_structure
from loopline.audit.whole import Audited
from loopline.data.duplicates.find import find_duplicates
from loopline.data.inference import infer_schema
from loopline.line.auditing import Audit, audit_table
from loopline.testing.splitters import view_of

HERE = Path(__file__).resolve().parent
SIZES = (50_000, 100_000, 200_000, 400_000)


@dataclass(frozen=True)
class Claim:
    """One trap and what was said of it.

    Args:
        table: the data.
        trap: what is wrong with it, by its description.
        said: what the audit said.
        holds: whether that names the trap.
    """

    table: str
    trap: str
    said: str
    holds: bool


def audit(frame: pl.DataFrame, target: str, **given: Any) -> Audit:
    return audit_table(frame, target, progress=False, **given)


def about(found: Audit | Audited, *checks: str, column: str = "") -> list[Finding]:
    """The findings of some checks, and of one column where it is named."""
    return [
        each
        for each in found.findings
        if each.check in checks and (not column or column in each.columns)
    ]


def claim(table: str, trap: str, found: list[Finding], holds: Callable[[Finding], bool]) -> Claim:
    """The first of the findings that names the trap; else that nothing did."""
    right = [each for each in found if holds(each)]
    if right:
        return Claim(table, trap, f"{right[0].severity}: {right[0].sentence}", True)
    said = "; ".join(f"{each.severity}: {each.sentence}" for each in found[:2])
    return Claim(table, trap, said or "nothing", False)


def loud(finding: Finding) -> bool:
    return finding.severity != "note"


def held(finding: Finding) -> bool:
    return finding.remedy is not None and finding.remedy.applied


# --- tables ---------------------------------------------------------------------------------------


def bike_sharing() -> list[Claim]:
    frame = pl.read_csv(DATA / "bike_sharing/hour.csv", try_parse_dates=True)
    whole = audit(frame, "cnt")
    return [
        claim("bike_sharing", "`casual` + `registered` is the target",
              about(whole, "target_copy"),
              lambda each: set(each.columns) == {"casual", "registered"}
              and each.severity == "leak"),
        claim("bike_sharing", "hours in a row: a random split promises too much",
              about(whole, "time"),
              lambda each: each.worth is not None and each.worth.matters),
    ]  # fmt: skip


def parkinsons() -> list[Claim]:
    path = DATA / "parkinsons_telemonitoring/parkinsons_updrs.csv"
    frame = pl.read_csv(path, infer_schema_length=None)
    plain = audit(frame.rename({"subject#": "k"}), "total_UPDRS")
    without = audit(frame.drop("subject#", "motor_UPDRS"), "total_UPDRS")
    return [
        claim("parkinsons", "about 140 recordings of each of 42 subjects (column renamed to `k`)",
              about(plain, "groups", column="k"),
              lambda each: each.severity == "repairable" and held(each)),
        claim("parkinsons", "the same, with the subject's column taken away",
              about(without, "groups"), lambda each: {"age", "sex"} <= set(each.columns)),
        claim("parkinsons", "`motor_UPDRS` is half of the target",
              about(plain, "target_copy", "noisy_copy", "strong_column", "deciding_column",
                    column="motor_UPDRS"), lambda each: True),
    ]  # fmt: skip


def straddling(frame: pl.DataFrame, target: str, found: Audited) -> int:
    """Rows that stand apart from a row with the same features in the split that is proposed."""
    assert found.split is not None
    names = [name for name in frame.columns if name != target]
    units = pl.Series("unit", found.split.units)
    first = frame.select(names).with_columns(units).select(
        (pl.col("unit") != pl.col("unit").first().over(names)).alias("apart")
    )  # fmt: skip
    return int(first["apart"].sum())


def wine() -> list[Claim]:
    from leaks_measure import audited

    frame = pl.read_csv(DATA / "wine_quality/wine_quality.csv", infer_schema_length=None)
    found, _ = audited(frame, "quality", None)
    apart = straddling(frame, "quality", found)
    return [
        claim("wine_quality", "1,177 rows repeat another", about(found, "exact_duplicates"),
              lambda each: each.num_rows - each.facts["clusters"] >= 1_177),
        Claim("wine_quality", "they share a side of the split",
              f"{apart:,} of them stand apart", apart == 0),
    ]  # fmt: skip


def titanic() -> list[Claim]:
    frame = pl.read_csv(DATA / "titanic/titanic.csv", infer_schema_length=None)
    found = audit(frame, "survived")
    return [
        claim("titanic", "`alive` is the target", about(found, "target_copy", column="alive"),
              lambda each: each.severity == "leak"),
        claim("titanic", "`class` says what `pclass` says, and so on",
              about(found, "same_columns", column="class"), lambda each: True),
    ]  # fmt: skip


def adult() -> list[Claim]:
    frame = pl.read_csv(
        DATA / "adult/adult.data", has_header=False, new_columns=ADULT, null_values=[" ?", "?"]
    ).with_columns(pl.col(pl.String).str.strip_chars())
    frame = frame.filter(pl.col("income").is_not_null()).with_columns(
        pl.col("age", "fnlwgt", "education-num", "hours-per-week").cast(pl.Int64)
    )
    schema = infer_schema(frame, target="income")
    weight = next(column for column in schema.columns if column.name == "fnlwgt")
    found = audit(frame, "income")
    stopped = [each for each in found.findings if each.severity == "leak"]
    return [
        claim("adult", "`education` says what `education-num` says",
              about(found, "same_columns", column="education"), lambda each: True),
        Claim("adult", "`fnlwgt` is a sampling weight, not a feature",
              f"{weight.role}: {weight.reason}", weight.role in ("weight", "ignore")),
        Claim("adult", "nothing in it gives the answer away",
              "no leak" if not stopped else stopped[0].sentence, not stopped),
    ]  # fmt: skip


def mammography() -> list[Claim]:
    frame = pl.read_csv(DATA / "mammography/mammography.csv", has_header=False)
    found = audit(frame, frame.columns[-1])
    return [
        claim("mammography", "3,334 rows repeat the features of another",
              about(found, "exact_duplicates"),
              lambda each: each.num_rows - each.facts["clusters"] >= 3_334),
    ]  # fmt: skip


def sms_spam() -> list[Claim]:
    from leaks_measure import audited

    path = DATA / "sms_spam/smsspamcollection.tsv"
    frame = pl.read_csv(path, separator="\t", quote_char=None).select("label", "message")
    found, _ = audited(frame, "label", None)
    apart = straddling(frame, "label", found)
    return [
        claim("sms_spam", "403 messages repeat another", about(found, "exact_duplicates"),
              lambda each: each.num_rows - each.facts["clusters"] == 403),
        Claim("sms_spam", "they share a side of the split", f"{apart:,} of them stand apart",
              apart == 0),
        claim("sms_spam", "templates of the same sender, nearly equal",
              about(found, "near_duplicates"), held),
    ]  # fmt: skip


def imdb() -> list[Claim]:
    folder = DATA / "imdb_with_label_errors"
    train, test = (pl.read_csv(folder / f"imdb_{part}.csv.gz") for part in ("train", "test"))
    sample = train[np.sort(np.random.default_rng(0).choice(train.height, 4_000, replace=False))]
    found = audit(sample, "sentiment")
    texts = pl.concat([train, test]).select("text")
    clusters = find_duplicates(texts, {"text": "text"}).clusters
    same = test["text"].is_in(train["text"].unique().implode()).to_numpy()
    leaked = np.isin(clusters[train.height :], clusters[: train.height])
    return [
        claim("imdb", "the rating gives the label (4,000 reviews)",
              about(found, "deciding_column", "target_copy", "noisy_copy", column="rating_LEAK"),
              lambda each: each.severity == "leak"),
        claim("imdb", "rows and ids stand class by class", about(found, "row_order", "id_tells"),
              loud),
        Claim("imdb", "123 test reviews stand in the training set too",
              f"{int(leaked[same].sum())} of {int(same.sum())} are in one cluster with their "
              f"copy, and {int(leaked.sum() - leaked[same].sum())} further test reviews with a "
              "near copy", bool(same.sum() == 123 and leaked[same].all())),
    ]  # fmt: skip


def _ranked(table: str, told: dict[str, Any], least: float) -> list[Claim]:
    curve = {row["looked_at"]: row for row in told["curve"]}
    recall = ", ".join(f"{100 * curve[n]['recall']:.0f} % in {n:,}" for n in (100, 400, 1_600))
    text = (
        f"of the first 100 rows of the list at least {100 * curve[100]['precision_at_least']:.0f} "
        f"are wrong ({100 * curve[100]['precision_among_judged']:.0f} % of those that people "
        f"re-judged); of all {told['wrong']:,} known errors {recall} (of {told['rows']:,} rows)"
    )
    right = curve[100]["precision_among_judged"] >= least
    trap = f"{told['wrong']:,} of {told['judged']:,} re-judged labels are wrong"
    return [Claim(table, trap, text, bool(right))]


def imdb_labels() -> list[Claim]:
    import label_errors

    return _ranked("imdb", label_errors.imdb(3_000), 0.5)


def mnist_labels() -> list[Claim]:
    import label_errors

    told = label_errors.mnist()
    curve = {row["looked_at"]: row for row in told["curve"]}
    text = (
        f"{100 * curve[100]['recall']:.0f} % of the {told['wrong']} known errors are among the "
        f"first 100 rows of the list, {100 * curve[400]['recall']:.0f} % among 400 of "
        f"{told['rows']:,}"
    )
    right = curve[400]["recall"] >= 0.5
    trap = f"{told['wrong']} of {told['judged']} re-judged labels are wrong"
    return [Claim("mnist", trap, text, bool(right))]


def photos() -> pl.DataFrame:
    """Each photo as 8 × 8 grey values, with the number in its file's name and its digit."""
    from PIL import Image

    rows = []
    for path in sorted((DATA / "sign_language_digits/Dataset").glob("*/*")):
        if path.suffix.lower() != ".jpg":
            continue
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            grey = np.asarray(image.convert("L").resize((8, 8)), dtype=np.float64)
        rows.append((int(path.stem.split("_")[1]), f"d{path.parent.name}", *grey.reshape(-1)))
    names = ["shot", "digit", *(f"p{number:02d}" for number in range(64))]
    return pl.DataFrame(rows, schema=names, orient="row").sort("shot", "digit")


def sign_language() -> list[Claim]:
    """Files are numbered student by student, about ten photos each: that is the truth here."""
    frame = photos()
    found = audit(frame, "digit")
    told = [
        each
        for each in about(found, "groups", "time", "row_order", "near_duplicates")
        if loud(each) or held(each)
    ]
    pixels = frame.drop("shot")
    view = view_of(pixels, infer_schema(pixels, target="digit"))
    worth = price_structure(view, np.arange(frame.height) // 10, Pricing(threads=2))
    said = "; ".join(f"{each.severity}: {each.sentence}" for each in told) or "nothing loud"
    truth = (
        f"by blocks of ten files the small model's log loss is {worth.repaired.value:.3f} instead "
        f"of {worth.claimed.value:.3f}, which is "
        f"{'surely' if worth.matters else 'not surely'} worse"
    )
    trap = "218 students of about ten photos each, named nowhere"
    right = bool(told) == worth.matters
    return [Claim("sign_language_digits", trap, f"{said} ({truth})", right)]


def elec2() -> list[Claim]:
    frame = pl.read_csv(DATA / "elec2_drift/elec.csv", infer_schema_length=None)
    return [
        claim("elec2", "half-hours in a row, with no column that says so",
              about(audit(frame, "class"), "time"),
              lambda each: loud(each) and each.worth is not None and each.worth.matters),
    ]  # fmt: skip


TABLES: tuple[Callable[[], list[Claim]], ...] = (
    bike_sharing, parkinsons, wine, titanic, adult, mammography, sms_spam, imdb, imdb_labels,
    mnist_labels, sign_language, elec2,
)  # fmt: skip


# --- cost -----------------------------------------------------------------------------------------


def made(num_rows: int, seed: int = 0) -> pl.DataFrame:
    """A table of 30 columns with an honest target of two classes."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {f"n{k:02d}": rng.normal(size=num_rows) for k in range(16)}
    columns |= {f"i{k}": rng.integers(0, 50, num_rows) for k in range(6)}
    for k in range(6):
        levels = [f"level {number}" for number in range(4 + 8 * k)]
        columns[f"c{k}"] = pl.Series(levels).gather(rng.integers(0, len(levels), num_rows))
    columns["order_id"] = rng.permutation(num_rows) + 1_000_000
    days = rng.integers(0, 1_000, num_rows).astype("timedelta64[D]")
    columns["due"] = np.datetime64("2023-01-01") + days
    frame = pl.DataFrame(columns)
    logit = frame["n00"] + frame["n01"] * frame["n02"] + (frame["i0"] - 25) / 20
    hit = rng.random(num_rows) < 1 / (1 + np.exp(-logit.to_numpy()))
    return frame.with_columns(pl.Series("y", np.where(hit, "yes", "no")))


def _resident() -> int:
    """Bytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def measured(num_rows: int) -> dict[str, Any]:
    """Time and memory of one audit; run in a process of its own, by `cost`."""
    audit(made(2_000), "y")
    before = _resident()
    frame = made(num_rows)
    size = frame.estimated_size()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    start, used = time.perf_counter(), time.process_time()
    found = audit(frame, "y")
    wall, cpu = time.perf_counter() - start, time.process_time() - used
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    return {
        "rows": num_rows,
        "columns": frame.width,
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "table_mb": round(size / 1e6, 1),
        "peak_mb": round((peak - before) / 1e6, 1),
        "times_table": round((peak - before) / size, 2),
        "loud": [each.sentence for each in found.findings if loud(each)],
    }


def cost(sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """The audit at several sizes, and the exponent of its growth from the first to the last."""
    rows = []
    for size in sizes:
        start = "from loopline.memory import give_back_at_once as g; g(); import runpy, sys; "
        start += f"sys.argv[1:] = ['--measure', '{size}']; "
        start += f"runpy.run_path({str(HERE / 'real_audit.py')!r}, run_name='__main__')"
        command = [sys.executable, "-c", start]
        path = f"{HERE}:{os.environ.get('PYTHONPATH', '')}"
        said = subprocess.run(
            command, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": path},
        ).stdout  # fmt: skip
        rows.append(json.loads(said.splitlines()[-1]))
        print(f"  cost: {rows[-1]}", flush=True)
    first, last = rows[0], rows[-1]
    exponent = np.log(last["cpu_seconds"] / first["cpu_seconds"]) / np.log(
        last["rows"] / first["rows"]
    )
    # Beyond the sample that most checks look at, memory is a floor and so many tables on top.
    slope, floor = np.polyfit(
        [row["table_mb"] for row in rows], [row["peak_mb"] for row in rows], 1
    )
    return {
        "sizes": rows,
        "exponent": round(float(exponent), 3),
        "floor_mb": round(float(floor), 1),
        "tables_on_top": round(float(slope), 2),
    }


def report(claims: list[Claim], costs: dict[str, Any] | None) -> list[str]:
    lines = ["| table | trap | what the audit says | found |", "|---|---|---|---|"]
    lines += [
        f"| {each.table} | {each.trap} | {each.said} | {'yes' if each.holds else '**no**'} |"
        for each in claims
    ]
    if costs:
        lines += ["", "| rows × 30 | wall | processor | table | peak above it | in tables |",
                  "|---|---|---|---|---|---|"]  # fmt: skip
        lines += [
            f"| {row['rows']:,} | {row['seconds']:.0f} s | {row['cpu_seconds']:.0f} s | "
            f"{row['table_mb']:.0f} MB | {row['peak_mb']:.0f} MB | {row['times_table']:.1f} × |"
            for row in costs["sizes"]
        ]
        told = f"\nProcessor time grows with the rows to the power {costs['exponent']:.2f}."
        if "floor_mb" in costs:
            told += (
                f" Memory is {costs['floor_mb']:.0f} MB whatever the size, and "
                f"{costs['tables_on_top']:.1f} × the table on top."
            )
        lines.append(told)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--no-cost", action="store_true")
    parser.add_argument("--only", default="", help="one table's function")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(given.measure)))
        return
    claims: list[Claim] = []
    for table in TABLES:
        if given.only in table.__name__:
            start = time.perf_counter()
            claims += table()
            print(f"  {table.__name__}: {time.perf_counter() - start:.0f} s", flush=True)
    costs = None if given.no_cost or given.only else cost()
    print("\n".join(report(claims, costs)))
    if given.out:
        result = {"claims": [asdict(each) for each in claims], "cost": costs}
        given.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
