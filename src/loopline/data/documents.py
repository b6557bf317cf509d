"""Plain text files as tables of documents.

A document is a run of whole paragraphs (blocks between blank lines) of about the size asked for; a
paragraph that is longer is cut at a line's end, and a line that is longer after a blank. Nothing is
lost: the documents of a file, joined, are the file. Each knows the line that it begins in.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from loopline.errors import DataError
from loopline.words import counted

TEXT, LINE = "text", "line"
PLAIN_TEXT = (".txt", ".md")
"""Endings of files that may be texts without columns."""
DOCUMENT_BYTES = 4_096
_CUTS = (re.compile(r"\n[ \t]*\n\s*"), re.compile(r"\n"), re.compile(r"[ \t]"))
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_documents(
    source: Path | bytes, name: str, *, size: int = DOCUMENT_BYTES, encoding: str | None = None
) -> tuple[pl.DataFrame, list[str], str]:
    """A text file as a table of documents.

    Args:
        source: the file, or its content.
        name: for messages.
        size: bytes of a document at most, but for a word that is longer.
        encoding: of the file; None for UTF-8, or what its first bytes say.

    Returns:
        The table: `text`, and `line`, the line of the file that it begins in, from 1; sentences on
        what was found; the encoding.

    Raises:
        DataError: the file is not text in that encoding, or has none.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    marked = next((known for mark, known in _MARKS if content.startswith(mark)), "utf-8")
    encoding = encoding or marked
    text = _decoded(content, name, encoding).replace("\r\n", "\n")
    if not text.strip():
        raise DataError(f"{name} has no text: it holds blanks only.")
    parts = list(_documents(text, size))
    lines, line = [], 1
    for part in parts:
        lines.append(line)
        line += part.count("\n")
    frame = pl.DataFrame({TEXT: parts, LINE: lines}, schema={TEXT: pl.String, LINE: pl.Int64})
    note = (
        f"read as text and divided into {counted(len(parts), 'document')} of at most {size:,} "
        "bytes, at blank lines where there are some"
    )
    return frame, [note], encoding


def _decoded(content: bytes, name: str, encoding: str) -> str:
    try:
        text = content.decode(encoding)
    except LookupError:
        raise DataError(f"There is no encoding {encoding!r}; utf-8 and cp1252 are usual.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not text in {encoding}: byte {error.start:,} is "
            f"0x{content[error.start]:02x}. Give `encoding` under `data.format`, or another file."
        ) from None
    place = text.find("\0")
    if place >= 0:
        raise DataError(
            f"{name} is not text: character {place:,} is a zero byte, as binary files have them. "
            "Give a text file."
        )
    return text


def _documents(text: str, size: int) -> Iterator[str]:
    """Paragraphs put together while they fit."""
    held, used = "", 0
    for part in _pieces(text, size, 0):
        length = len(part.encode())
        if held and used + length > size:
            yield held
            held, used = "", 0
        held, used = held + part, used + length
    yield held


def _pieces(text: str, size: int, depth: int) -> Iterator[str]:
    """Pieces of a text, none longer than the size where it can be cut so fine."""
    start = 0
    for cut in [*(found.end() for found in _CUTS[depth].finditer(text)), len(text)]:
        piece = text[start:cut]
        start = cut
        if not piece:
            continue
        if len(piece.encode()) > size and depth + 1 < len(_CUTS):
            yield from _pieces(piece, size, depth + 1)
        else:
            yield piece
