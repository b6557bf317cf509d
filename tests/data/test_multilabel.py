"""Columns of labels become one form, and what cannot be labels is refused in a sentence."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.inference import infer_schema
from loopline.data.multilabel import (
    label_matrix,
    likely_separator,
    multilabel_schema,
    rarest_labels,
    with_labels,
)
from loopline.errors import DataError, SettingsError

SEPARATED = {"tags": {"separator": "|"}}


def made(cells: object, settings: dict[str, dict[str, str]] | None = None) -> list[list[str]]:
    """The labels of each row as the made column holds them."""
    frame = pl.DataFrame({"tags": cells})
    return [json.loads(cell) for cell in with_labels(frame, "tags", settings or {})["tags_labels"]]


def test_lists_are_sorted_sets() -> None:
    """The order of a list and repeats in it say nothing; an empty list is an answer."""
    assert made([["b", "a", "b"], [], ["a"]]) == [["a", "b"], [], ["a"]]


def test_numbers_in_lists_are_names() -> None:
    """Labels are names: numbers are read as their text."""
    assert made([[3, 10], [10]]) == [["10", "3"], ["10"]]


def test_a_separator_parts_texts_and_alone_means_no_label() -> None:
    """Blanks around labels say nothing, and a row without labels is the separator alone."""
    assert made(["a | b", "b", "|", ""], SEPARATED) == [["a", "b"], ["b"], [], []]


def test_the_made_column_follows_from_the_named_one() -> None:
    """Made twice, the column is the same, so repairs that change nothing are seen as such."""
    frame = with_labels(pl.DataFrame({"tags": ["a|b", "|"]}), "tags", SEPARATED)
    assert with_labels(frame, "tags", SEPARATED).equals(frame)


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.text(min_size=1).filter(lambda text: text.strip() != "")), min_size=1
    ).filter(lambda rows: any(rows))
)
def test_any_labels_come_back(rows: list[list[str]]) -> None:
    """Whatever a label's letters are, quotes and blanks included, the matrix names its rows."""
    cells = with_labels(
        pl.DataFrame({"tags": pl.Series(rows, dtype=pl.List(pl.String()))}), "tags", {}
    )["tags_labels"]
    labels = sorted({label for row in rows for label in row})
    matrix = label_matrix(cells, labels)
    for row, has in zip(rows, matrix, strict=True):
        assert {labels[code] for code in np.flatnonzero(has)} == set(row)


def test_a_missing_target_is_refused_with_its_rows() -> None:
    """A missing cell is not an empty list; the sentence says how to write that."""
    with pytest.raises(DataError, match=r"missing in 1 of 2 rows \(counted from 0: 1\).*empty li"):
        made([["a"], None])


@pytest.mark.parametrize("cells", [[["a", ""], ["b"]], [["a", None], ["b"]], [["a", " "], ["b"]]])
def test_an_empty_label_is_refused_in_lists(cells: list[list[str | None]]) -> None:
    """A label that is empty text, blank or missing names nothing."""
    with pytest.raises(DataError, match="1 of 2 rows have an empty label"):
        made(cells)


def test_an_empty_label_is_refused_in_texts() -> None:
    """Two separators in a row leave an empty label between them."""
    with pytest.raises(DataError, match=r"empty label in 'tags' \(counted from 0: 1\)"):
        made(["a|b", "a||b"], SEPARATED)


def test_texts_need_a_separator() -> None:
    """What stands between labels is not guessed."""
    with pytest.raises(DataError, match=r"first is 'a;b'.*separator"):
        made(["a;b", "a"])


def test_lists_take_no_separator() -> None:
    """A separator for a column of lists has no effect, so it is an error."""
    with pytest.raises(SettingsError, match="holds lists"):
        made([["a"], ["b"]], SEPARATED)


def test_numbers_are_no_labels() -> None:
    """A column of numbers is neither lists nor texts."""
    with pytest.raises(DataError, match="is of type Int64"):
        made([1, 2])


def schema_reason(cells: object, settings: dict[str, dict[str, str]] | None = None) -> str:
    """What the schema says of the target."""
    frame = pl.DataFrame({"x": np.arange(len(cells)) % 7, "tags": cells})  # type: ignore[arg-type]
    return multilabel_schema(frame, "tags", settings or {}).named("tags_labels").reason


def test_the_named_column_reaches_no_model() -> None:
    """The column of labels is the answer: it is ignored, and the made one is the target."""
    frame = pl.DataFrame({"x": [1, 2, 3], "tags": [["a"], ["b"], []]})
    schema = multilabel_schema(frame, "tags", {})
    assert (schema.features, schema.target, schema.classes) == (("x",), "tags_labels", ("a", "b"))
    assert schema.named("tags").role == "ignore"


def test_a_separator_that_stands_nowhere_is_refused() -> None:
    """With a wrong separator each cell would be one strange label."""
    with pytest.raises(SettingsError, match=r"stands in no cell.*first is 'a;b'"):
        schema_reason(["a;b", "a", "b"], SEPARATED)


def test_ten_thousand_labels_are_refused() -> None:
    """Labels that hardly repeat are ids or texts."""
    with pytest.raises(DataError, match="10,000 distinct labels; at most 1,000"):
        schema_reason([[f"l{i}", f"l{i + 5_000}"] for i in range(5_000)])


def test_every_row_with_every_label_is_refused() -> None:
    """Where nothing varies there is nothing to learn."""
    with pytest.raises(DataError, match="Every row has all 2 labels"):
        schema_reason([["a", "b"]] * 9)


def test_no_label_and_one_label_are_refused() -> None:
    """Without labels there is no task, and one label is a binary one."""
    with pytest.raises(DataError, match="No row has a label"):
        schema_reason(pl.Series([[], []], dtype=pl.List(pl.String())))
    with pytest.raises(DataError, match="binary task"):
        schema_reason([["a"], []])


def test_rare_labels_and_constant_ones_are_told() -> None:
    """A label of fewer than five rows, and one that every row has, are named."""
    cells = [["a", "b"] if i % 2 else ["a"] for i in range(20)]
    cells[0].append("c")
    told = schema_reason(cells)
    assert "every row has 'a'" in told
    assert "1 of 3 stands in fewer than 5 rows ('c')" in told


def test_rows_of_one_label_each_are_told() -> None:
    """Exactly one label a row is what `task: multiclass` makes use of."""
    assert "task: multiclass" in schema_reason([["a"], ["b"]] * 10)


def test_a_list_without_a_task_is_pointed_to_multilabel() -> None:
    """Whoever names a list as the target is told which task it makes."""
    with pytest.raises(DataError, match="task: multilabel"):
        infer_schema(pl.DataFrame({"x": [1, 2], "y": [["a"], []]}), target="y")


def test_a_separator_is_proposed_only_beyond_doubt() -> None:
    """Texts with a bar now and then, and texts that never repeat, are no lists of labels."""
    sentences = pl.Series([f"number {i} | of many" for i in range(100)])
    assert likely_separator(sentences) is None
    assert likely_separator(pl.Series(["a", "b|a"] * 5)) is None
    found = likely_separator(pl.Series(["a;b", "a", "b", ";"] * 30))
    assert found is not None
    assert found[0] == ";"


def test_the_rarest_label_makes_the_stratum() -> None:
    """A row belongs to the rarest of its labels; rows without labels to a stratum of their own."""
    matrix = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0]], dtype=np.int8)
    assert rarest_labels(matrix).tolist() == [0, 0, 2, 3, 0]
