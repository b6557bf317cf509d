"""Plain text as documents, and documents as rows of a language task."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.data.documents import read_documents
from loopline.data.language import (
    DocumentColumns,
    language_schema,
    predicted_text,
    prompts_of,
    with_bytes,
)
from loopline.data.sources import TableFormat, read_table
from loopline.errors import DataError, SettingsError


def test_paragraphs_stay_whole_where_they_fit():
    """Blocks between blank lines are put together up to the size; each knows its first line."""
    text = "one\ntwo\n\nthree\n\n\nfour five\n"
    frame, notes, encoding = read_documents(text.encode(), "a.txt", size=16)
    assert frame["text"].to_list() == ["one\ntwo\n\nthree\n\n\n"[:9], "three\n\n\n", "four five\n"]
    assert frame["line"].to_list() == [1, 4, 7]
    assert encoding == "utf-8"
    assert "3 documents of at most 16 bytes" in notes[0]


@given(st.text(alphabet="ab \n\té€", min_size=1, max_size=80), st.integers(1, 30))
def test_nothing_is_lost(text, size):
    """The documents of a file, joined, are the file; a document is too long only for a word."""
    if not text.strip():
        return
    parts = read_documents(text.encode(), "a.txt", size=size)[0]["text"].to_list()
    assert "".join(parts) == text
    for part in parts:
        assert len(part.encode()) <= size or not any(sign in part[:-1].strip() for sign in " \n\t")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"ab\xffcd", "not text in utf-8: byte 2 is 0xff"),
        (b"ab\0cd", "character 2 is a zero byte"),
        (b" \n \n", "holds blanks only"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, content, words):
    """A file that is not text is refused in a sentence that says where it is not."""
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / "a.txt", format=TableFormat(document_bytes=100))


def test_encoding_is_read_as_given_and_found_by_its_mark(tmp_path):
    """An encoding given in the format is used; a byte order mark tells its own."""
    (tmp_path / "a.txt").write_bytes("Zoë".encode("cp1252"))
    read = read_table(tmp_path / "a.txt", format=TableFormat(document_bytes=9, encoding="cp1252"))
    assert read.frame["text"].to_list() == ["Zoë"]
    (tmp_path / "b.txt").write_bytes("Zoë".encode("utf-16"))
    read = read_table(tmp_path / "b.txt", format=TableFormat(document_bytes=9))
    assert read.frame["text"].to_list() == ["Zoë"]
    assert read.format.kind == "text"


def test_files_of_other_kinds_are_read_as_before(tmp_path):
    """A CSV file stays a table when documents are asked for: its ending says what it is."""
    (tmp_path / "a.csv").write_text("text\nhello world\n")
    read = read_table(tmp_path / "a.csv", format=TableFormat(document_bytes=9))
    assert read.format.kind == "csv"


FRAME = pl.DataFrame(
    {
        "question": [f"What is {n} and {n}?" for n in range(30)],
        "answer": [f"It is {2 * n} é." for n in range(30)],
        "level": list(range(30)),
    }
)


def test_texts_are_features_and_their_bytes_the_target():
    """The answer is predicted, the question read before it, numbers are left out."""
    schema = language_schema(FRAME, "answer", {})
    assert schema.features == ("question", "answer")
    assert schema.target == "answer_bytes"
    assert (predicted_text(schema), prompts_of(schema)) == ("answer", ("question",))
    assert "level" not in schema.features
    assert with_bytes(FRAME, "answer")["answer_bytes"][0] == len("It is 0 é.".encode())
    before, texts = DocumentColumns.of(schema).documents(FRAME)
    assert (before[3], texts[3]) == ("What is 3 and 3?\n\n", "It is 6 é.")


def test_overrides_rule_but_for_the_text():
    """A prompt can be left out and a number made the order; the text cannot be taken away."""
    given = {"question": {"role": "ignore"}, "level": {"role": "time"}}
    schema = language_schema(FRAME, "answer", given)
    assert prompts_of(schema) == ()
    assert schema.with_role("time") == ("level",)
    with pytest.raises(SettingsError, match="contradicts `target: answer`"):
        language_schema(FRAME, "answer", {"answer": {"role": "ignore"}})


def test_instructions_without_answers_are_refused():
    """Rows without a text are named; a column that is no text is refused."""
    frame = FRAME.with_columns(
        answer=pl.when(pl.col("level").is_in([4, 6])).then(None).otherwise("answer")
    )
    with pytest.raises(DataError, match=r"2 of 30 rows have no text in 'answer' \(row 5, 7\)"):
        with_bytes(frame, "answer")
    with pytest.raises(DataError, match="'level' is of type Int64"):
        with_bytes(FRAME, "level")
    with pytest.raises(DataError, match="no text column 'anwser'; did you mean 'answer'"):
        with_bytes(FRAME, "anwser")


def test_line_ends_of_windows_are_line_ends() -> None:
    """The same text with other line ends gives the same documents and lines."""
    text = "One line.\nIts second.\n\nAnother paragraph.\n"
    plain, _, _ = read_documents(text.encode(), "a.txt", size=24)
    other, _, _ = read_documents(text.replace("\n", "\r\n").encode(), "a.txt", size=24)
    assert other.equals(plain)
    assert plain.height > 1
