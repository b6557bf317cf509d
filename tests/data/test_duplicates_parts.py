"""The parts of the search for copies: clusters, word hashes, grids, the radius of copies."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.duplicates.clusters import connected, merged
from loopline.data.duplicates.disagreement import LabelDisagreement, label_disagreement
from loopline.data.duplicates.excess import copy_radius
from loopline.data.duplicates.find import find_duplicates
from loopline.data.duplicates.kinds import DuplicateSettings, NearDuplicates
from loopline.data.duplicates.measure import sampled_counts
from loopline.data.duplicates.rows import row_keys
from loopline.data.duplicates.shingles import text_keys, words_of
from loopline.data.duplicates.texts import jaccard
from loopline.errors import DataError, SettingsError

RADII = 0.2 * 2.0 ** (-np.arange(40) / 2)


def walk(num_rows, pairs):
    """Components by depth-first search, as slow and plain as can be."""
    near = {row: set() for row in range(num_rows)}
    for a, b in pairs:
        near[a].add(b)
        near[b].add(a)
    lowest = [-1] * num_rows
    for start in range(num_rows):
        todo = [start] if lowest[start] < 0 else []
        while todo:
            row = todo.pop()
            if lowest[row] < 0:
                lowest[row] = start
                todo += near[row]
    return lowest


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_components_are_those_of_a_walk(pairs):
    """Connected components equal those of a plain search, named by their lowest row."""
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    assert connected(20, ends[:, 0], ends[:, 1]).tolist() == walk(20, pairs)


def test_a_long_chain_is_one_component():
    """A shuffled chain of 100,000 rows is one cluster."""
    rows = np.random.default_rng(0).permutation(100_000)
    assert not connected(100_000, rows[:-1], rows[1:]).any()


def test_codings_merge():
    """Rows that share a code in any of the codings share a component."""
    assert merged(np.array([5, 5, 6, 7]), np.array([1, 2, 2, 3])).tolist() == [0, 0, 0, 3]


@pytest.mark.parametrize(
    "pair",
    [
        ("Grüße aus Köln", "GRUSSE aus koln".replace("SS", "ß")),
        ("今日は良い天気です", "今日は、良い天気です。"),
        ("สวัสดีชาวโลก", "สวัสดี ชาวโลก!"),
        ("Привет, мир", "привет мир"),
        ("नमस्ते दुनिया", "नमस्ते  दुनिया।"),
        ("مرحبا بالعالم", "مرحبا، بالعالم"),
    ],
)
def test_words_in_many_scripts(pair):
    """Case, accents and punctuation make no difference to a text's key, in any script."""
    first, second = text_keys(words_of(pl.Series(pair)))
    assert first == second


def test_words_tell_order_and_content_apart():
    """Another order or another word is another text."""
    assert len(set(text_keys(words_of(pl.Series(["a b", "b a", "a c", "ab", "a"]))).tolist())) == 5


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=12), min_size=2, max_size=6))
def test_jaccard_is_that_of_sets(lists):
    """The similarity of hashed shingles equals that of plain Python sets."""
    texts = pl.Series([" ".join(words) for words in lists], dtype=pl.String)
    left, right = np.triu_indices(len(lists), 1)
    sets = [set(itertools.pairwise(words)) for words in lists]
    want = [
        len(sets[a] & sets[b]) / len(sets[a] | sets[b]) if sets[a] | sets[b] else 0.0
        for a, b in zip(left, right, strict=True)
    ]
    assert jaccard(texts, left, right, 2).tolist() == pytest.approx(want)


@pytest.mark.parametrize("slope", [1, 2, 5, 20])
def test_honest_pairs_have_no_radius(slope):
    """Pair counts that fall as a power of the distance give no copies."""
    counts = np.floor(1e5 * (RADII / RADII[0]) ** slope)
    assert copy_radius(RADII, counts, 0.05, slope) is None


def test_an_excess_that_does_not_fall_has_a_radius():
    """200 pairs at 0.001 beside honest ones that fall as r**4 are copies."""
    counts = 1e6 * (RADII / RADII[0]) ** 4 + 200 * (RADII >= 0.001)
    radius = copy_radius(RADII, counts, 0.05, 4)
    assert radius is not None
    assert 0.001 <= radius <= 0.03


def test_settings_out_of_range_are_named():
    """Every wrong setting is told at once with its range."""
    with pytest.raises(SettingsError, match=r"`text_similarity` must lie in \[0.5, 1\], got 0.1"):
        DuplicateSettings(text_similarity=0.1, largest_share=2.0)


def test_label_disagreement_by_hand():
    """Two of seven rows cannot be right: 1 of (a a b), 1 of (a b); the ceiling is 5/7."""
    clusters = np.array([0, 0, 0, 3, 3, 5, 5])
    found = label_disagreement(clusters, np.array(["a", "a", "b", "a", "b", "c", "c"]))
    assert (found.clusters, found.rows, found.copied_rows, found.wrong_at_least) == (2, 5, 7, 2)
    assert found.ceiling == pytest.approx(5 / 7)
    assert found.examples == ((0, 2), (3, 4))
    assert "5 rows in 2 clusters have the same features and different targets" in found.sentence
    assert LabelDisagreement.from_dict(found.to_dict()) == found


def test_label_disagreement_needs_one_target_a_row():
    """Targets of another length are refused."""
    with pytest.raises(DataError, match=r"Targets must have shape \(3,\)"):
        label_disagreement(np.array([0, 1, 2]), np.array([0, 1]))


def test_a_column_without_type_is_refused():
    """The error names the column and the fix."""
    with pytest.raises(DataError, match="there is none for 'b'; give `types` an entry"):
        find_duplicates(pl.DataFrame({"a": [1], "b": [2]}), {"a": "number"})


def test_findings_survive_as_plain_data():
    """`from_dict` gives back what `to_dict` was given."""
    found = find_duplicates(pl.DataFrame({"a": [1, 2, 1]}), {"a": "number"})
    again = NearDuplicates.from_dict(found.to_dict())
    assert again.kinds == found.kinds


def test_rows_with_other_holes_have_other_words() -> None:
    """In any of forty number columns a missing or an endless cell makes another key."""
    frame = pl.DataFrame({f"n{i}": [1.5] * 7 for i in range(40)})
    frame[1, "n3"], frame[2, "n34"], frame[3, "n3"] = None, None, None
    frame[4, "n3"], frame[5, "n3"], frame[6, "n3"] = float("nan"), float("inf"), float("-inf")
    words = row_keys(frame, dict.fromkeys(frame.columns, "number"), {}).words.tolist()
    assert words[1] == words[3] == words[4]
    assert len({words[0], words[1], words[2], words[5], words[6]}) == 5


def test_sampled_rows_are_counted_within_their_key_only() -> None:
    """The counts are those of all pairs of one key, found one by one."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 2)).astype(np.float32)
    keys = rng.integers(0, 3, 300).astype(np.uint64)
    radii = np.array([0.6, 0.3, 0.1])
    counted = sampled_counts(points, np.full(300, 2, dtype=np.int32), keys, radii, 0)
    gaps = np.sqrt(((points[:, None] - points) ** 2).mean(axis=2))
    gaps[(keys[:, None] != keys) | np.eye(300, dtype=bool)] = np.inf
    assert counted[1].tolist() == [(gaps <= radius).sum() for radius in radii]
