"""The forms of export by name."""

from __future__ import annotations

from pathlib import Path

from loopline.errors import InputError, NotFoundError
from loopline.release.bundle import Release
from loopline.release.exports.base import Exported, Form, Subject, write_export
from loopline.release.exports.docker import Docker
from loopline.release.exports.folder import Folder
from loopline.release.exports.kserve import KServe
from loopline.release.exports.mlflow import MLflow
from loopline.release.exports.onnx_form import Onnx
from loopline.release.exports.triton import Triton
from loopline.release.replay import Kept, kept_rows
from loopline.store.artifacts import Store
from loopline.words import nearest

FORMS: dict[str, Form] = {
    form.name: form for form in (Folder(), Onnx(), Docker(), KServe(), Triton(), MLflow())
}
FORM_NAMES = tuple(FORMS)


def export(
    release: Release,
    to: str,
    target: str | Path,
    *,
    store: Store | None = None,
    repaired: bool = False,
) -> Exported:
    """Write a release in another form into a folder that is not there yet, and prove it.

    Args:
        release: the release.
        to: the form: folder, onnx, docker, kserve, triton or mlflow.
        target: the folder.
        store: where its kept rows are, to be proved on; None proves it on made-up rows alone.
        repaired: for ONNX: whoever asks the model makes the line's repairs beforehand.

    Raises:
        InputError: an unknown form, a folder that exists, a step that the form cannot express.
        EnvironmentProblem: a missing package, a full disk.
        IntegrityError: what was written does not answer as the release does.
    """
    if to not in FORMS:
        raise InputError(f"`--to` must be a known form, got {to!r}. {nearest(to, FORM_NAMES)}")
    if release.task == "multilabel":
        raise InputError(
            f"{release.name} gives each row any of {len(release.classes):,} labels, and no form of "
            "export holds that yet. Serve the release itself: `loopline serve`."
        )
    subject = Subject(release, _kept(store, release), repaired)
    return write_export(FORMS[to], subject, Path(target).expanduser())


def _kept(store: Store | None, release: Release) -> Kept | None:
    if store is None:
        return None
    try:
        return kept_rows(store, release)
    except NotFoundError:
        return None
