"""A release: one folder of data that predicts, says where it comes from, and runs no code.

    release.json    what it is: task, classes, contract, repairs, threshold, metrics, lineage
    model/          the fitted preprocessing and the model in its own text or binary format
    card.md         the model card, written from the facts above
    measured.json   times measured on the machine that made it (no part of the release's id)
    manifest.json   sizes and digests of all files, written by the store

`Release.predict` and `Release.predict_one` go the same way as training did: recorded repairs, input
contract, feature graph, model, calibration, threshold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.clean import Repair, repair_row, repair_values
from loopline.data.made_targets import MADE_TARGETS
from loopline.data.multilabel import told_labels
from loopline.data.schema import Label, Schema, Task, has_labels
from loopline.data.sources import Table, TableFormat, read_table
from loopline.data.units import read_unit_row, read_units
from loopline.errors import DataError, InputError, IntegrityError, NotFoundError
from loopline.evaluate.calibration import Calibration
from loopline.evaluate.evaluation import evaluate_predictions
from loopline.evaluate.intervals import Estimate
from loopline.features.contract import InputContract
from loopline.frames import as_frame, is_frame, like
from loopline.models.base import FittedModel, Floats
from loopline.models.families import family
from loopline.store.artifacts import Artifact
from loopline.store.folder import copy_artifact, open_folder
from loopline.store.manifest import FILES_FOLDER
from loopline.words import counted

RELEASE_FORMAT = 1
FACTS = "release.json"
MEASURED = "measured.json"
_SHOWN_ROWS = 5
_WRAPPING = ("delimiter", "quote", "decimal", "thousands", "header", "columns", "comment",
             "skip_rows", "strip", "sheet")  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """Scores of a release on labelled rows.

    Args:
        metrics: value and 95 % interval by metric name.
        num_rows: labelled rows scored.
        remarks: what the input contract noticed.
    """

    metrics: dict[str, Estimate]
    num_rows: int
    remarks: tuple[str, ...] = ()


class Release:
    """A released model. Get one with `load_release`, `Result.release` or `Project.release`."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.facts: dict[str, Any] = json.loads(artifact.path(FACTS).read_text(encoding="utf-8"))
        if self.facts.get("format", 0) > RELEASE_FORMAT:
            raise IntegrityError(
                f"{artifact.id} has release format {self.facts['format']}; this Loopline reads up "
                f"to {RELEASE_FORMAT}. Install a newer version."
            )

    @property
    def id(self) -> str:
        """The release's id, which is the digest of everything in it."""
        return self.artifact.id

    @property
    def name(self) -> str:
        """The name of the line that made it."""
        return str(self.facts["name"])

    @property
    def task(self) -> Task:
        """binary, multiclass, multilabel, regression, language or retrieval."""
        task: Task = self.facts["task"]
        return task

    @property
    def classes(self) -> tuple[Label, ...]:
        """The classes, or the labels of a multilabel task, in the order of the probabilities."""
        return tuple(self.facts["classes"])

    @cached_property
    def schema(self) -> Schema:
        """Columns with types and roles, as in training."""
        return Schema.from_dict(self.facts["schema"])

    @cached_property
    def contract(self) -> InputContract:
        """What an input must look like."""
        return InputContract.from_dict(self.facts["contract"])

    @cached_property
    def model(self) -> FittedModel:
        """The fitted model with its preprocessing."""
        return family(self.facts["family"]).load(self.artifact.path("model"))

    @cached_property
    def measured(self) -> dict[str, Any]:
        """Latency and size, measured where the release was made."""
        if MEASURED not in self.artifact.files:
            return {}
        data: dict[str, Any] = json.loads(self.artifact.path(MEASURED).read_text(encoding="utf-8"))
        return data

    @cached_property
    def _repairs(self) -> tuple[Repair, ...]:
        return tuple(Repair.from_dict(data) for data in self.facts["repairs"])

    @cached_property
    def _calibration(self) -> Calibration | None:
        data = self.facts["calibration"]
        return None if data is None else Calibration.from_dict(data)

    @cached_property
    def expected(self) -> frozenset[str]:
        """Columns that training knew and the model does not use: no remark on them."""
        return frozenset(column.name for column in self.schema.columns if column.role != "feature")

    @property
    def threshold(self) -> float | None:
        """The probability from which on the positive class (binary) or a label is predicted.

        None for other tasks.
        """
        data = self.facts["threshold"]
        return None if data is None else float(data["value"])

    def read(self, source: Any) -> Table:
        """Read new data the way the training data was read, into the same types."""
        if is_frame(source):
            return read_table(source)
        known = self._format
        given = self.facts["spec"]["data"].get("format", {})
        # What was detected of the training file's wrapping is no promise for the next file: a line
        # trained on CSV predicts Parquet too. Types and what the settings say are kept.
        trained = known.kind
        if "kind" not in given:
            known = replace(known, kind=None)
        if "encoding" not in given:
            known = replace(known, encoding=None)
        if trained != "csv":
            told = known.to_dict().items()
            plain = {name: entry for name, entry in told if name not in _WRAPPING}
            known = TableFormat.from_dict(
                plain | {name: given[name] for name in _WRAPPING if given.get(name) is not None}
            )
        pictures = tuple(column.name for column in self.contract.columns if column.kind == "image")
        known = replace(known, images=pictures or None)
        if "://" in str(source) and "table=" in str(source):
            known = replace(known, query=None, table=None)
        return read_table(source, format=known)

    def reading_remarks(self, table: Table) -> tuple[str, ...]:
        """What a person should know of how new data was read: another encoding than in training."""
        trained, found = self._format.encoding, table.facts.encoding
        if trained is None or found is None or _plain(trained) == _plain(found):
            return ()
        texts = table.frame.select(pl.col(pl.String))
        longer = texts.select(pl.all().str.len_bytes().gt(pl.all().str.len_chars()).any())
        if not any(longer.row(0) if texts.width else ()):
            return ()
        return (
            f"The data is written in {_plain(found)}, the training data was in {_plain(trained)}; "
            f"it was read in its own encoding. Give `encoding` if letters look wrong.",
        )

    @cached_property
    def _format(self) -> TableFormat:
        return TableFormat.from_dict(self.facts["table_format"])

    def repaired(self, frame: pl.DataFrame) -> pl.DataFrame:
        """A table after the value repairs of training, amounts such as "$5" read as numbers."""
        return repair_values(read_units(frame, self._format.units), self._repairs)

    def probabilities(self, frame: pl.DataFrame) -> tuple[Floats, tuple[str, ...]]:
        """Calibrated probabilities (rows, classes) or values (rows,), with remarks."""
        checked, remarks = self._checked(frame)
        return self.raw(checked), remarks

    def raw(self, checked: pl.DataFrame) -> Floats:
        """Calibrated probabilities or values for a table that the contract has checked."""
        raw = self.model.predict(checked)
        return raw if self._calibration is None else self._calibration.apply(raw)

    def raw_row(self, checked: Mapping[str, Any]) -> Floats:
        """`raw` for one row that the contract has checked; shape (classes,) or (1,)."""
        raw = self.model.predict_row(checked)
        return raw if self._calibration is None else self._calibration.apply(raw[None, :])[0]

    def repaired_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """`repaired` for one row."""
        if self._format.units:
            row = read_unit_row(row, self._format.units)
        return repair_row(row, self._repairs) if self._repairs else row

    def _checked(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
        repaired = self.repaired(frame)
        checked, remarks = self.contract.check(
            repaired.select(name for name in repaired.columns if name not in self.expected)
        )
        return checked, (*(str(remark) for remark in remarks), *_empty_rows(checked))

    def predict(self, data: Any) -> Any:
        """Predict new rows.

        Args:
            data: a path, glob or URL, or a polars, pandas or Arrow table.

        Returns:
            A table with `prediction` and, for classes, one `probability_<class>` column each, in
            the input's row order; of the same kind as the input (polars for paths). Of a multilabel
            task `prediction` holds lists of labels.

        Raises:
            DataError: a column is missing or has another type; the message names it.
        """
        frame = as_frame(data) if is_frame(data) else self.read(data).frame
        predicted, _ = self.predict_frame(frame)
        return like(predicted, data)

    def predict_frame(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
        """Predict a polars table; gives the predictions and the contract's remarks."""
        raw, remarks = self.probabilities(frame)
        return self.as_table(raw), remarks

    def as_table(self, raw: Floats) -> pl.DataFrame:
        """Probabilities or values as `predict` tells them: one column of predictions and more."""
        if not has_labels(self.task):
            return pl.DataFrame({"prediction": raw})
        if self.task == "multilabel":
            told = told_labels(self.codes(raw) == 1, self.classes)
            labels = pl.Series("prediction", told, dtype=pl.List(pl.String()))
        else:
            labels = pl.Series("prediction", list(self.classes)).gather(self.codes(raw))
        columns = {
            f"probability_{label}": np.ascontiguousarray(raw[:, code])
            for code, label in enumerate(self.classes)
        }
        return pl.DataFrame({"prediction": labels, **columns})

    def codes(self, probabilities: Floats) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Class codes from probabilities: at the threshold if binary, else the most probable.

        Of a multilabel task 0 and 1 at the threshold, shape (rows, labels).
        """
        if self.task == "multilabel":
            return (probabilities >= self._label_threshold).astype(np.int64)
        if self.threshold is not None:
            return (probabilities[:, 1] >= self.threshold).astype(np.int64)
        return np.asarray(np.argmax(probabilities, axis=1), dtype=np.int64)

    def predict_one(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Predict one row given as a mapping.

        Returns:
            ``{"prediction": value}`` for regression, else also ``"probability"``, a mapping from
            class to probability. Of a multilabel task the prediction is a list of labels.
        """
        raw = self.raw_row(self.contract.check_row(self.repaired_row(row)))
        if not has_labels(self.task):
            return {"prediction": float(raw[0])}
        probability = dict(zip(self.classes, raw.tolist(), strict=True))
        return {"prediction": self.told(raw), "probability": probability}

    def told(self, raw: Floats) -> Label | list[Label]:
        """The class, or the labels, that the probabilities of one row give it."""
        if self.task == "multilabel":
            return [self.classes[code] for code in np.flatnonzero(raw >= self._label_threshold)]
        threshold = self.threshold
        code = int(raw[1] >= threshold) if threshold is not None else int(raw.argmax())
        return self.classes[code]

    @property
    def _label_threshold(self) -> float:
        return 0.5 if self.threshold is None else self.threshold

    def explain(self, data: Any) -> Any:
        """What each raw column adds to each row's raw score (TreeSHAP for tree families).

        The raw score is the log odds of the positive class (binary), one score a class
        (multiclass, columns ``<column>|<class>``), or the value itself (regression). The columns
        and one constant add up to it.

        Source: Lundberg et al. 2020, "From local explanations to global understanding with
        explainable AI for trees", as the boosting libraries implement it.

        Raises:
            InputError: the release's family has no additive contributions.
        """
        frame = as_frame(data) if is_frame(data) else self.read(data).frame
        checked, _ = self._checked(frame)
        found = self.model.contributions(checked)
        if found is None:
            raise InputError(
                f"The family {self.facts['family']} has no contributions by column; "
                "the report shows permutation importance instead."
            )
        columns: dict[str, Floats] = {}
        for name, values in found.items():
            if values.ndim == 1:
                columns[name] = values
            else:
                for code, label in enumerate(self.classes):
                    columns[f"{name}|{label}"] = np.ascontiguousarray(values[:, code])
        return like(pl.DataFrame(columns), data)

    def _units(self, frame: pl.DataFrame) -> NDArray[np.int64] | None:
        """Rows of one group count as one observation, where the table has the group columns."""
        groups = [name for name in self.schema.with_role("group") if name in frame.columns]
        if not groups:
            return None
        codes = frame[groups[0]].rank("dense").fill_null(0)
        return codes.cast(pl.Int64).to_numpy()

    def save(self, folder: str | Path) -> Path:
        """Copy the release into a folder that is not there yet; `load_release` reads it back.

        Raises:
            InputError: the folder exists.
            EnvironmentProblem: a full disk; nothing is left of the copy.
        """
        target = Path(folder)
        copy_artifact(self.artifact, target)
        return target

    def evaluate(self, data: Any, *, seed: int = 0) -> Evaluation:
        """Score the release on new labelled rows, each metric with its 95 % interval.

        Raises:
            DataError: the target column is absent, or holds labels that training did not know.
        """
        from loopline.splits.views import target_codes

        frame = as_frame(data) if is_frame(data) else self.read(data).frame
        target = self.schema.target
        frame = self.with_target(frame)
        if target not in frame.columns:
            raise DataError(
                f"To evaluate, the data needs the target column {target!r}; it has "
                f"{', '.join(frame.columns[:20])}. Add it, or use `predict`."
            )
        repaired = self.repaired(frame)
        y = target_codes(repaired[target], self.schema)
        raw, remarks = self.probabilities(frame)
        metrics = evaluate_predictions(
            self.schema.task,
            self.classes,
            y,
            raw,
            threshold=0.5 if self.threshold is None else self.threshold,
            units=self._units(repaired),
            seed=seed,
            metrics=self.facts["objective"]["further"],
        )
        return Evaluation(metrics, len(y), remarks)

    @property
    def separator(self) -> str | None:
        """What stands between the labels of a row in the texts of a multilabel task's table."""
        made = MADE_TARGETS.get(self.task)
        if made is None:
            return None
        said = self.facts["spec"].get("columns", {}).get(made.named(self.schema), {})
        found: str | None = said.get("separator")
        return found

    def answered_in(self, frame: pl.DataFrame) -> bool:
        """Whether a table has the column that the settings name as the target."""
        made = MADE_TARGETS.get(self.task)
        named = self.schema.target if made is None else made.named(self.schema)
        return named in frame.columns

    def with_target(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The table with the target column, where that is made of the one the settings name.

        Raises:
            DataError: that column is absent, or its cells cannot be used.
        """
        made = MADE_TARGETS.get(self.task)
        if made is None:
            return frame
        columns = self.facts["spec"].get("columns", {})
        return made.add(frame, made.named(self.schema), columns)


def _empty_rows(checked: pl.DataFrame) -> tuple[str, ...]:
    """A remark on rows of which nothing is known, where the model reads several columns."""
    if checked.width < 2 or not checked.height:
        return ()
    rows = checked.select(pl.all_horizontal(pl.all().is_null())).to_series().arg_true().to_list()
    if not rows:
        return ()
    shown = ", ".join(map(str, rows[:_SHOWN_ROWS])) + (", …" if len(rows) > _SHOWN_ROWS else "")
    holds = "holds" if len(rows) == 1 else "hold"
    return (
        f"{counted(len(rows), 'row')} {holds} nothing in any column that the model reads (rows "
        f"{shown}): what is predicted of them is only what is usual.",
    )


def _plain(encoding: str) -> str:
    return encoding.removesuffix("-sig")


def load_release(where: str | Path) -> Release:
    """Load a release from its folder; every file's digest is checked before it is read.

    Args:
        where: a release's folder, in a store or copied anywhere.

    Raises:
        NotFoundError: there is no release in that folder.
        IntegrityError: a file differs from the manifest.
    """
    if not is_release_folder(where):
        raise NotFoundError(
            f"There is no release in {str(where)!r} (no {FACTS}). Give a release's folder, or use "
            "`loopline.open_project().release(id)` for an id."
        )
    return Release(open_folder(where))


def is_release_folder(where: str | Path) -> bool:
    """Whether a path is the folder of a release."""
    folder = Path(where)
    return (folder / FACTS).is_file() or (folder / FILES_FOLDER / FACTS).is_file()
