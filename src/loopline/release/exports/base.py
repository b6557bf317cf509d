"""Exports: what each one is, how it is proved, and that its folder is whole or absent.

**Lifetime.** `export` is called once, by a person or a pipeline, with a release, a form and the
name of a folder that is not there yet. The form's `write` fills an empty folder beside it and
proves what it wrote on rows; only then does the folder get its name. A kill, a full disk or a
failed proof leave nothing under that name.

A new form is one file and one line in `forms.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from loopline.errors import InputError
from loopline.release.bundle import Release
from loopline.release.replay import Kept
from loopline.store.disk import list_files, whole_folder


@dataclass(frozen=True)
class Subject:
    """What is exported.

    Args:
        release: the release.
        kept: its kept rows, None where they are not at hand.
        repaired: whether who asks the exported model makes the line's repairs beforehand (ONNX).
    """

    release: Release
    kept: Kept | None = None
    repaired: bool = False


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Args:
        folder: where it is.
        files: its files, relative.
        remarks: what was proved, and what a person should know.
    """

    folder: Path
    files: tuple[str, ...]
    remarks: tuple[str, ...]


class Form(ABC):
    """One form of export. Has no state."""

    name: ClassVar[str]
    """Its name after ``--to``."""
    takes_repaired: ClassVar[bool] = False
    """Whether `Subject.repaired` has an effect."""

    @abstractmethod
    def write(self, subject: Subject, folder: Path) -> Sequence[str]:
        """Fill an empty folder and prove it.

        Returns:
            What was proved and what a person should know, in sentences.

        Raises:
            InputError: the release cannot be expressed in this form; names the step.
            EnvironmentProblem: a package is missing; names it.
            IntegrityError: the proof failed.
        """


def write_export(form: Form, subject: Subject, target: Path) -> Exported:
    """Write an export into a folder that is not there yet, whole or not at all.

    Raises:
        InputError: the folder exists, or the release cannot be expressed.
        EnvironmentProblem: a full disk, a read-only folder, a missing package.
        IntegrityError: what was written does not answer as the release does.
    """
    if subject.repaired and not form.takes_repaired:
        raise InputError(
            f"`--repaired` has no effect on `--to {form.name}`, which makes the repairs itself. "
            "Leave it out."
        )
    with whole_folder(target, f"export to {target}") as draft:
        remarks = tuple(form.write(subject, draft))
        files = tuple(list_files(draft))
    return Exported(target, files, remarks)
