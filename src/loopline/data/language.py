"""Language as a task: the rows are documents, and what is predicted is a document's own text.

The text column named as the target becomes a feature, because a model has to read a text to say
how likely it is. What stands in the target's place is the number of its bytes (UTF-8), a column of
its own; a prediction is minus the logarithm of the probability that a model gives to the text, in
nats. The bits a model needs for a byte follow from sums of the two and do not depend on its tokens,
so every stage that works on rows with a number works on documents too.

Other text columns are read before the text and are not predicted: the instruction before an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from loopline.data.inference import columns_around, refuse_other_role
from loopline.data.overrides import apply_overrides, near_names
from loopline.data.schema import Column, Schema
from loopline.errors import DataError

SUFFIX = "_bytes"
BETWEEN = "\n\n"
"""What stands between two columns of a document."""


def bytes_column(text: str) -> str:
    """The name of the column that counts a text's bytes.

    >>> bytes_column("answer")
    'answer_bytes'
    """
    return f"{text}{SUFFIX}"


def with_bytes(frame: pl.DataFrame, text: str) -> pl.DataFrame:
    """The table with the number of bytes of each text.

    Args:
        frame: the documents.
        text: the column of texts to be predicted.

    Raises:
        DataError: there is no such column, it holds no text, or some texts are missing or empty.
    """
    if text not in frame.columns:
        raise DataError(f"There is no text column {text!r}{near_names(text, frame.columns)}")
    texts = frame[text]
    if texts.dtype != pl.String():
        raise DataError(
            f"`task: language` predicts texts, and {text!r} is of type {texts.dtype}. Name a "
            "column of texts as the target."
        )
    size = texts.str.len_bytes().fill_null(0)
    empty = (size == 0).arg_true()
    if empty.len():
        rows = ", ".join(f"{row + 1:,}" for row in empty.head(5))
        more = ", …" if empty.len() > 5 else ""
        raise DataError(
            f"{empty.len():,} of {frame.height:,} rows have no text in {text!r} (row {rows}{more}),"
            " so there is nothing to be predicted in them. Drop them, or name the column of the "
            "answers as the target."
        )
    return frame.with_columns(size.cast(pl.Int64).alias(bytes_column(text)))


def language_schema(
    frame: pl.DataFrame, text: str, overrides: Mapping[str, Mapping[str, Any]]
) -> Schema:
    """The schema of documents: texts are features, their bytes the target, all else is left out.

    Args:
        frame: as `with_bytes` gives it.
        text: the column of texts to be predicted.
        overrides: as in `infer_schema`.

    Raises:
        SettingsError: an override takes the text away from the models.
    """
    refuse_other_role(text, "language", overrides)
    target = bytes_column(text)
    if target not in frame.columns:
        frame = with_bytes(frame, text)
    columns = tuple(
        _as_document(column, frame[column.name].dtype, text, target)
        for column in columns_around(frame, target, overrides)
    )
    rest = {name: entry for name, entry in overrides.items() if name not in (text, target)}
    return apply_overrides(Schema(columns, "language"), frame, rest)


def _as_document(column: Column, dtype: pl.DataType, text: str, target: str) -> Column:
    if column.name == target:
        return replace(column, type="number", role="target", reason=f"bytes of {text!r}")
    if column.name == text:
        return replace(column, type="text", role="feature", reason="the text that is predicted")
    if column.role != "feature":
        return column
    if dtype == pl.String():
        return replace(column, type="text", reason="read before the text, not predicted")
    return replace(column, role="ignore", reason="a language model reads texts only")


def predicted_text(schema: Schema) -> str:
    """The column whose text is predicted."""
    return schema.target.removesuffix(SUFFIX)


def prompts_of(schema: Schema) -> tuple[str, ...]:
    """The text columns that are read before it, in table order."""
    text = predicted_text(schema)
    return tuple(
        name for name in schema.features if name != text and schema.named(name).type == "text"
    )


@dataclass(frozen=True)
class DocumentColumns:
    """Which columns make a document.

    Args:
        text: the column that is predicted.
        prompts: the columns that are read before it.
    """

    text: str
    prompts: tuple[str, ...] = ()

    @staticmethod
    def of(schema: Schema) -> DocumentColumns:
        """The layout of a schema's documents."""
        return DocumentColumns(predicted_text(schema), prompts_of(schema))

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them, in the order in which they are read."""
        return (*self.prompts, self.text)

    def documents(self, frame: pl.DataFrame) -> tuple[list[str], list[str]]:
        r"""What is read before each text, and the texts.

        >>> frame = pl.DataFrame({"question": ["2 + 2?"], "answer": ["4"]})
        >>> DocumentColumns("answer", ("question",)).documents(frame)
        (['2 + 2?\n\n'], ['4'])
        """
        before = [self.before(row) for row in frame.select(self.prompts).iter_rows()]
        texts = frame[self.text].fill_null("").to_list()
        return before or [""] * len(texts), texts

    def begun(self, prompt: Mapping[str, str] | str) -> str:
        """A document as far as a prompt goes.

        Args:
            prompt: the beginning of the text, or, where a column is read before it, that column's
                cell; or cells by column.
        """
        if isinstance(prompt, str):
            prompt = {self.columns[0]: prompt}
        cells = [prompt.get(name) for name in self.prompts]
        return self.before(cells) + prompt.get(self.text, "")

    def before(self, cells: Sequence[str | None]) -> str:
        """What is read before a text, from the cells of the columns before it."""
        return "".join((cell or "") + BETWEEN for cell in cells)
