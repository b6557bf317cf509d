"""`loopline init --task language`: a settings file for texts that are predicted themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loopline.data.documents import DOCUMENT_BYTES, LINE
from loopline.data.language import language_schema, predicted_text, prompts_of, with_bytes
from loopline.data.schema import Schema
from loopline.evaluate.metrics import default_metric
from loopline.line.pair import read_pair
from loopline.line.proposal import Proposal, column_line, data_lines, named_columns, scalar
from loopline.line.suited import suited
from loopline.progress import Reporter
from loopline.words import counted, sentence

FOLDS = 3
IN_ORDER = "where a document stands in its text: near ones tell of each other"


def propose_language(
    data: str,
    target: str,
    *,
    test: str | None,
    file: Path,
    reporter: Reporter,
    columns: Sequence[str] | None = None,
) -> Proposal:
    """Read the texts and write down what is predicted and what is read before it.

    Args:
        data: path, glob or URL; plain text becomes a table of documents with the column `text`.
        target: the column of texts to be predicted.
        test: an official test file.
        file: where the settings file will stand; paths in it are relative to it.
        reporter: hears of progress.
        columns: names for files without a header row.

    Raises:
        DataError: there is no such column, or some of its texts are missing.
    """
    with reporter.step("read the texts"):
        table, _ = read_pair(data, test, columns, document_bytes=DOCUMENT_BYTES)
        frame = with_bytes(table.frame, target)
    schema = language_schema(frame, target, {})
    if table.facts.kind == "text" and test is None:
        schema = schema.changed(LINE, role="time", reason=IN_ORDER)
    size = int(frame[schema.target].sum())
    sentences = [
        f"{counted(frame.height, 'document')}, {size:,} bytes to be predicted.",
        *map(sentence, table.facts.notes),
        *_of_prompts(schema),
    ]
    text = _text(data, test, file, schema, columns)
    return Proposal(text, tuple(sentences), schema)


def _of_prompts(schema: Schema) -> list[str]:
    prompts = prompts_of(schema)
    if not prompts:
        return []
    told = " and ".join(repr(name) for name in prompts)
    return [f"{told} stands before {predicted_text(schema)!r}: it is read and not predicted."]


def _text(
    data: str, test: str | None, file: Path, schema: Schema, names: Sequence[str] | None
) -> str:
    text = predicted_text(schema)
    candidates, why = suited(schema)
    named = ", ".join(each.name for each in candidates)
    shown = [column for column in schema.columns if column.name not in (text, schema.target)]
    order = schema.with_role("time")
    lines = [
        "# A Loopline line for language: texts are predicted themselves, byte by byte.",
        "# All settings: docs/settings.md, or `loopline schema`.",
        "version: 1",
        *data_lines(data, test, file, "texts", named_columns(names)),
        f"target: {scalar(text)}",
        "task: language",
        "",
    ]
    if shown:
        lines += ["columns:", *(column_line(column) for column in shown), ""]
    by = f"  # test and validation come after training in the order of {order[0]}" if order else ""
    lines += [
        "split:",
        f"  method: auto{by}",
        f"  folds: {FOLDS}  # each candidate is fitted anew for each of them",
        "",
        f"models: [{named}]  # the simplest that is not measurably worse wins; {why}",
        "objective:",
        f"  metric: {default_metric('language').name}  # ranks the candidates",
        "seed: 0",
    ]
    return "\n".join(lines) + "\n"
