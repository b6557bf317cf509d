"""The usual list of forty kinds of leak, and for each of them what the audit does about it.

After Kapoor and Narayanan (Patterns 2023) and others. A kind is planted by `planted_leaks.py`, made
impossible by the line (`PREVENTED` there, with the test that cheats), or neither, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

KINDS: tuple[str, ...] = (
    "no held-out rows, or a score on rows that were fitted on",
    "scaler, imputer or projection fitted on all rows",
    "features selected on all rows",
    "target encoding in sample",
    "oversampling before the split",
    "augmentation before the split",
    "exact copies on both sides",
    "near copies on both sides",
    "equal rows with other labels",
    "rows of one subject on both sides",
    "site, batch or device",
    "overlapping windows, patches or slices",
    "a random split of rows in time",
    "label windows that reach into the test rows",
    "features that look ahead in time",
    "normalised or differenced over the whole series",
    "the target under another name",
    "columns from after the outcome",
    "columns that add up to the target",
    "empty cells that tell the label",
    "a join that has rows for one class only",
    "a treatment that tells the diagnosis",
    "row number, id or file order",
    "file name, size or other metadata",
    "boilerplate in texts",
    "classes from different periods or sources",
    "early stopping on test rows",
    "hyperparameters chosen on test rows",
    "threshold or calibration fitted on test rows",
    "stacking with in-sample predictions",
    "seed or checkpoint chosen by test rows",
    "models chosen by repeated looks at the test score",
    "learning from the features of test rows",
    "a pretrained model that has seen the test rows",
    "imputing by the label or by neighbours across the split",
    "test rows that are easier, or filtered",
    "labels that a model made",
    "features computed otherwise when serving",
    "cleaning by test labels",
    "edges of a graph across the split",
)

NOT_TOLD: Mapping[int, str] = {
    16: "not seen where it was done before the table was made, because every value is as it would "
    "be in an honest column of another scale; what the line itself scales it fits on training rows",
    22: "seen where the treatment tells the diagnosis nearly always (18); a weaker one is no "
    "stranger than an honest good column, and only a person knows when it was given",
    34: "not seen: what a pretrained encoder has read is in no table; trust a score of its "
    "features on texts that are younger than it",
    38: "what computes the columns before they reach the line is not seen: keep a log of what was "
    "served and compare",
    40: "edges that stand in no column are not seen",
    37: "not seen: a label that a model made looks like a label that a person gave; say where "
    "labels come from",
}
"""Kinds of which a table shows nothing, or not enough, and why."""


def kinds_table(
    planted: Mapping[int, Sequence[str]], prevented: Mapping[int, Sequence[str]]
) -> list[str]:
    """One line for each of the forty kinds.

    Args:
        planted: number → names of the planted leaks of this kind.
        prevented: number → tests that cheat and fail.

    >>> kinds_table({7: ["copies"]}, {})[8]
    '| 7 | exact copies on both sides | planted: copies |'
    """
    lines = ["| number | leak | what is done |", "|---|---|---|"]
    for number, name in enumerate(KINDS, start=1):
        parts = []
        if prevented.get(number):
            tests = ", ".join(f"`{test}`" for test in prevented[number])
            parts.append(f"prevented: {tests}")
        if planted.get(number):
            parts.append(f"planted: {'; '.join(planted[number])}")
        if number in NOT_TOLD:
            parts.append(NOT_TOLD[number])
        lines.append(f"| {number} | {name} | {'. '.join(parts)} |")
    return lines
