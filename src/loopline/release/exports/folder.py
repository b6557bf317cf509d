"""The folder that `loopline.runtime` answers from: numpy and the model's own library suffice."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from loopline.data.schema import has_classes
from loopline.errors import InputError
from loopline.release.bundle import Release
from loopline.release.exports.base import Form, Subject
from loopline.release.exports.rows import example_row, proof_rows
from loopline.release.replay import Answers
from loopline.runtime.folder import write_folder
from loopline.runtime.fresh import answered

TOLERANCE = 1e-9
"""Largest difference to the release: sums of products may be added in another order."""
ROWS, TABLE = "row by row", "all at once"


class Folder(Form):
    """`loopline.runtime` and numpy answer as the release does."""

    name = "folder"

    def write(self, subject: Subject, folder: Path) -> Sequence[str]:
        """See `Form.write`."""
        return (write_runtime(subject, folder),)


def write_runtime(subject: Subject, folder: Path) -> str:
    """Write the runtime's files into an empty folder, and prove them; what was proved."""
    release = subject.release
    model = release.model.portable()
    write_folder(folder, runtime_facts(release), model)
    packages = model.estimator.packages
    (folder / "requirements.txt").write_text(requirements(packages), encoding="utf-8")
    (folder / "README.md").write_text(_readme(release, packages), encoding="utf-8")
    rows = proof_rows(release, subject.kept)
    given = answered(folder, rows.rows, packages)
    answers = {
        way: Answers(_shaped(given[name], release), given["codes"])
        for name, way in (("rows_raw", ROWS), ("table_raw", TABLE))
    }
    return rows.told(rows.prove(release, answers, TOLERANCE, "exported"))


def runtime_facts(release: Release) -> dict[str, Any]:
    """What rows go through beside the model.

    Raises:
        InputError: a column whose cells only a table's machinery can read.
    """
    zoned = [column.name for column in release.contract.columns if column.zone]
    if zoned:
        raise InputError(
            f"`loopline.runtime` does not know time zones, and {', '.join(map(repr, zoned))} has "
            "one. Export `--to docker`, or train on times in UTC without a zone."
        )
    contract = release.contract
    return {
        "release": release.id,
        "name": release.name,
        "task": release.task,
        "target": release.schema.target,
        "classes": list(release.classes),
        "threshold": release.threshold,
        "calibration": release.facts["calibration"],
        "repairs": release.facts["repairs"],
        "units": dict(release.facts["table_format"].get("units") or {}),
        "contract": {
            "columns": [
                {
                    "name": column.name,
                    "kind": column.kind,
                    "zone": column.zone,
                    "missing": column.missing,
                }
                for column in contract.columns
            ],
            "on_bad_value": contract.on_bad_value,
            "on_absent": contract.on_absent,
        },
    }


def requirements(packages: Sequence[str]) -> str:
    """Pinned versions of what the runtime needs, as pip reads them."""
    found = []
    for package in ("numpy", *packages):
        try:
            found.append(f"{package}=={metadata.version(package)}\n")
        except metadata.PackageNotFoundError:  # xgboost's build for the processor alone
            found.append(f"{package}-cpu=={metadata.version(f'{package}-cpu')}\n")
    return "".join(found)


def _shaped(raw: Any, release: Release) -> Any:
    return raw if has_classes(release.task) else raw[:, 0]


def _readme(release: Release, packages: Sequence[str]) -> str:
    needed = " and ".join(("numpy", *packages))
    return f"""# {release.name}

Predicts `{release.schema.target}` as the release `{release.id}` does; needs {needed}.

    pip install --no-deps loopline
    pip install -r requirements.txt

    from loopline.runtime import load
    model = load(".")
    model.predict_one({dict(example_row(release))!r})

Rows are mappings from column to value; dates are ISO text, missing cells are None.
"""
