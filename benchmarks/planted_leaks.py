"""How many planted leaks does the audit find, how often does it cry wolf, and are its prices true?

Leaks of more than thirty kinds are planted into real tables in several strengths. Each spoilt table
is audited as `loopline audit` does it, with nothing said about its columns. A leak counts as found
when a finding names it (and the column) as a leak, something to repair or a warning, or holds its
rows together (of copies at least 80 %); as handled when a line would stop, hold its rows together,
go forward in time, or take the column for no feature. Clean tables, parts
of them and honest simulations are audited too; there nothing may be blocked.

For each leak with a price the score if repaired is held against the truth: the mean score of the
same small model, fitted on as many rows without the leak, on rows of the same source that nothing
was planted into (the leak is not there when serving). Those rows are a sample, too; `truth within`
counts by the interval as it is told, `both errors` with the untouched rows' own error added.

    python benchmarks/planted_leaks.py [--seed 1] [--out benchmarks/results/planted_leaks.json]
        [--kept planted.jsonl]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from leaks_columns import COLUMN_TYPES
from leaks_kinds import kinds_table
from leaks_measure import Case, control, measure, practice
from leaks_rows import ROW_TYPES
from leaks_tables import controls

TYPES = (*ROW_TYPES, *COLUMN_TYPES)
PREVENTED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("1", "fitting or scoring on rows of the other side",
     ("test_no_family_fits_on_test_rows", "test_a_training_view_cannot_be_made_by_hand",
      "test_scoring_on_training_rows_is_refused")),
    ("2", "scaling, imputing or encoding with other rows than the training rows",
     ("test_a_view_cannot_be_widened_to_test_rows",)),
    ("3", "selecting features on all rows",
     ("test_selection_among_many_noise_columns_stays_at_chance",)),
    ("4", "target encoding in sample",
     ("test_target_encoding_of_a_random_column_stays_at_chance",)),
    ("5", "oversampling before the split", ("test_oversampling_before_the_split_gains_nothing",)),
    ("6", "augmentation before the split",
     ("test_augmentation_before_the_split_gains_nothing", "test_augmentation_keeps_its_parent")),
    ("14", "training on labels that were not known yet",
     ("test_a_label_that_was_not_known_yet_trains_nothing",)),
    ("27, 28, 29, 31", "early stopping, tuning, choice, threshold or calibration by test labels",
     ("test_nothing_is_decided_by_test_labels",)),
    ("30", "stacking with in-sample predictions",
     ("test_predictions_of_rows_that_were_fitted_on_are_refused",
      "test_out_of_fold_predictions_cannot_be_made_by_hand")),
    ("32", "choosing by repeated looks at the test score",
     ("test_the_vault_is_opened_once_and_after_every_decision",
      "test_choosing_by_repeated_test_scores_is_stopped")),
    ("33, 35", "learning from the features of test rows",
     ("test_nothing_is_learned_from_test_features",)),
    ("38", "features computed otherwise when serving", ("test_what_trains_is_what_serves",)),
    ("39", "cleaning by test labels", ("test_no_view_holds_a_test_label_anywhere",)),
    ("40", "edges of a graph across the split, where columns name their ends",
     ("test_edges_keep_their_ends_on_one_side",)),
)  # fmt: skip


def kinds() -> list[str]:
    """What is done about each of the forty kinds, as a table."""
    planted: dict[int, list[str]] = {}
    for kind in TYPES:
        if kind.counted:
            planted.setdefault(kind.number, []).append(kind.name)
    prevented: dict[int, list[str]] = {}
    for numbers, _, tests in PREVENTED:
        for number in numbers.split(", "):
            prevented.setdefault(int(number), []).extend(tests)
    return kinds_table(planted, prevented)


def cases(wanted: str = "", table: str = "") -> list[Case]:
    """Every leak in every strength and table."""
    return [
        Case(kind, base, name, value)
        for kind in TYPES
        if wanted in kind.name
        for base in kind.bases()
        if table in base.name
        for name, value in kind.strengths
    ]


def _case(number: int, seed: int, wanted: str, table: str) -> dict[str, Any] | None:
    return measure(cases(wanted, table)[number], seed)


def _control(number: int) -> dict[str, Any]:
    return control(controls()[number])


def in_parallel(
    work: Callable[[int], Any], number: int, workers: int, told: str, kept: Path | None
) -> list[Any]:
    """The answers in order, with a line of progress now and then.

    Args:
        work: gives the answer of each number.
        number: of answers.
        workers: processes.
        told: what they are.
        kept: answers are added to this file as they come, and those in it are not asked for again.
    """
    lines = kept.read_text().splitlines() if kept is not None and kept.exists() else []
    found = {each[1]: each[2] for each in map(json.loads, lines) if each[0] == told}
    # In a random order, so that the answers of a run that was stopped are a fair sample.
    drawn = np.random.default_rng(0).permutation(number).tolist()
    todo = [each for each in drawn if each not in found]
    # Forked processes would inherit the locks of polars' threads.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        asked = {pool.submit(work, each): each for each in todo}
        for answer in as_completed(asked):
            found[asked[answer]] = answer.result()
            if kept is not None:
                with kept.open("a") as file:
                    file.write(json.dumps([told, asked[answer], answer.result()]) + "\n")
            if len(found) % 25 == 0:
                print(f"  {told}: {len(found)} of {number}", flush=True)
    return [found[each] for each in range(number)]


def by_type(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Recall and true prices of each type."""
    found = []
    for kind in TYPES:
        mine = [row for row in rows if row["type"] == kind.name]
        prices = [row["price"] for row in mine if "price" in row]
        if mine:
            found.append(
                {
                    "type": kind.name,
                    "number": kind.number,
                    "planted": len(mine),
                    "found": sum(row["found"] for row in mine),
                    "counted": kind.counted,
                    "blocked": sum(row["blocked"] for row in mine),
                    "priced": len(prices),
                    "true": sum(price["within"] for price in prices),
                    "true_both": sum(price["within_both_errors"] for price in prices),
                    "claim_true": sum(price["claim_within"] for price in prices),
                }
            )
    return found


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)" if whole else "none"


def report(result: dict[str, Any]) -> list[str]:
    """The tables, as printed and as they stand in `docs/audit.md`."""
    lines = ["| leak | planted | found | handled | priced | truth within |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for row in sorted(result["types"], key=lambda row: not row["counted"]):
        price = f"{row['true']} ({row['true_both']})" if row["priced"] else "–"
        name = row["type"] + ("" if row["counted"] else " *")
        lines.append(
            f"| {name} | {row['planted']} | {row['found']} | {row['blocked']} | "
            f"{row['priced'] or '–'} | {price} |"
        )
    counted = [row for row in result["types"] if row["counted"]]
    total = {key: sum(row[key] for row in counted)
             for key in ("planted", "found", "blocked", "priced", "true", "true_both",
                         "claim_true")}  # fmt: skip
    lines.append("")
    lines.append(f"- Found: {share(total['found'], total['planted'])}; rows marked * do not count.")
    lines.append(
        "- Score if repaired: the truth is within its interval in "
        f"{share(total['true'], total['priced'])}; with the untouched rows' own error in "
        f"{share(total['true_both'], total['priced'])}. The score as claimed would have been in "
        f"{share(total['claim_true'], total['priced'])}."
    )
    clean = result["controls"]
    if clean:
        wrong = sum(bool(row["blocking"]) for row in clean)
        lines.append(f"- Blocking false alarms: {wrong} on {len(clean)} clean tables.")
    rates = [row["noise"] for row in result["cases"] if "noise" in row]
    if rates:
        held = sum(low <= rate["planted"] <= high for rate in rates
                   for _, low, high in [rate["estimate"]])  # fmt: skip
        lines.append(f"- Noise rate within its interval: {share(held, len(rates))}.")
    if result["practice"]:
        lines += ["", "| number | practice | test that cheats | prevented |", "|---|---|---|---|"]
        for number, name, tests in PREVENTED:
            for test in tests:
                held = result["practice"].get(test, False)
                lines.append(f"| {number} | {name} | `{test}` | {'yes' if held else '**no**'} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--types", default="", help="only leaks with this in their name")
    parser.add_argument("--table", default="", help="only tables with this in their name")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=["cases", "controls", "practice"])
    parser.add_argument("--kept", type=Path, help="go on from this file of single answers")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    start = time.perf_counter()
    result: dict[str, Any] = {"seed": given.seed, "types": [], "cases": [], "controls": [],
                              "practice": {}}  # fmt: skip
    if given.only in (None, "cases"):
        number = len(cases(given.types, given.table))
        work = partial(_case, seed=given.seed, wanted=given.types, table=given.table)
        rows = in_parallel(work, number, given.workers, "planted", given.kept)
        result["cases"] = [row for row in rows if row is not None]
        result["types"] = by_type(result["cases"])
    if given.only in (None, "controls"):
        result["controls"] = in_parallel(
            _control, len(controls()), given.workers, "clean", given.kept
        )
    if given.only in (None, "practice"):
        result["practice"] = practice()
    result["minutes"] = round((time.perf_counter() - start) / 60, 1)
    print("\n".join(report(result)))
    for row in result["cases"]:
        if not row["found"]:
            print(f"MISSED {row['type']} | {row['table']} | {row['strength']}: {row['seen']}")
    for row in result["controls"]:
        for sentence in row["blocking"]:
            print(f"FALSE ALARM {row['table']}: {sentence}")
    for name, held in result["practice"].items():
        if not held:
            print(f"NOT PREVENTED {name}")
    if given.out:
        given.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
