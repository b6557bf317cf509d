"""Copies of texts, invented and real."""

from __future__ import annotations

import numpy as np
import polars as pl

from loopline.data.duplicates.find import find_duplicates
from loopline.data.duplicates.kinds import DuplicateSettings
from loopline.data.duplicates.texts import jaccard


def random_texts(rows, words=50, seed=0):
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, 5_001)
    picked = rng.choice(5_000, (rows, words), p=share / share.sum())
    return [" ".join(f"w{word}" for word in row) for row in picked]


def find(texts, **settings):
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    return find_duplicates(frame, {"text": "text"}, settings=DuplicateSettings(**settings))


def changed(texts: list[str], rng: np.random.Generator, least: int, most: int) -> list[str]:
    """The texts with `least` to `most` words replaced by words of their own, in capitals."""
    copies = []
    for text in texts:
        words = text.split()
        for place in rng.choice(len(words), rng.integers(least, most + 1), replace=False):
            words[place] = f"new{rng.integers(1_000)}"
        copies.append(" ".join(words).upper())
    return copies


def test_changed_words_are_found_and_every_pair_is_true():
    """Of copies that share 0.8 of their word groups 95 % are found, and every pair is true."""
    texts = random_texts(5_000)
    copies = changed(texts[:1_000], np.random.default_rng(1), 1, 9)
    found = find([*texts, *copies])
    both, left, right = pl.Series([*texts, *copies]), np.arange(1_000), np.arange(5_000, 6_000)
    groups, words = jaccard(both, left, right, 2), jaccard(both, left, right, 1, repeats=True)
    joined = found.clusters[:1_000] == found.clusters[5_000:]
    close = groups >= 0.8
    assert 200 < close.sum() < 700
    assert joined[close].mean() >= 0.95
    assert not joined[~close & (words < 0.8)].any()
    (kind,) = found.kinds
    assert len(kind.pairs) == 20
    assert all(likeness >= 0.8 for _, _, likeness in kind.pairs)


def test_one_word_in_twelve_changed_is_found():
    """Of 500 copies with 4 of 50 words changed, 95 % are found, though few word groups stay."""
    texts = random_texts(2_000)
    copies = changed(texts[:500], np.random.default_rng(2), 4, 4)
    found = find([*texts, *copies])
    assert (found.clusters[:500] == found.clusters[2_000:]).mean() >= 0.95


def test_short_texts_with_another_word_are_no_copies():
    """In a short text one other word is another meaning."""
    plans = ["phone", "cable", "power", "water"]
    found = find([f"please tell me how I can cancel my {plan} contract now" for plan in plans])
    assert np.unique(found.clusters).size == 4


def test_random_texts_are_no_copies():
    """Texts that share their common words alone are left apart."""
    assert find(random_texts(5_000, words=20)).kinds == ()


def test_short_texts_are_compared_whole():
    """A few words are equal but for spelling or they are different."""
    found = find(["Call me later", "call me LATER!", "Call me sooner", "", None, "?"])
    assert found.clusters.tolist() == [0, 0, 2, 3, 4, 5]
    assert [kind.name for kind in found.kinds] == ["spelling"]


def test_scripts_without_blanks():
    """A Chinese text with one sign changed is a near copy."""
    text = "今天天气很好我们一起去公园散步然后在湖边的餐厅吃午饭晚上回家看一部老电影再早点休息"
    found = find([text, text.replace("老", "新"), "完全不同的一句话没有任何相同的内容在里面出现过"])
    assert found.clusters.tolist() == [0, 0, 2]


def test_a_hundred_scripts_and_broken_texts():
    """Letters from all over Unicode, lone marks and controls give no crash and no false copy."""
    rng = np.random.default_rng(0)
    starts = rng.choice(np.arange(0x100, 0xD000, 0x40), 300, replace=False)
    texts = [
        "".join(chr(start + k % 64) + " " * (k % 3 == 0) for k in range(40)) for start in starts
    ]
    found = find([*texts, "\x00\x01", "\u0301\u0301 \u200d", "é" * 3, None, ""])
    assert found.num_rows <= 4
    assert find([*texts, texts[0]]).clusters[-1] == 0


def test_a_repeated_text_beside_other_columns_is_a_category():
    """Ten descriptions in a thousand rows do not make rows copies."""
    texts = random_texts(10, words=12) * 100
    frame = pl.DataFrame({"text": texts, "x": np.arange(1_000.0)})
    found = find_duplicates(frame, {"text": "text", "x": "number"})
    assert found.num_rows == 0
    assert "like a category, so its texts alone do not make rows copies." in found.kinds[0].sentence


def test_a_very_long_text():
    """A text of five megabytes is compared by its first million characters."""
    long = " ".join(f"w{k}" for k in range(700_000))
    found = find([long, long + " end", "short text of a few words that is no copy at all"])
    assert found.clusters.tolist() == [0, 0, 2]


def test_sms_spam(data_dir):
    """The 403 repeated messages of sms_spam are found."""
    table = pl.read_csv(
        data_dir("sms_spam") / "smsspamcollection.tsv",
        separator="\t",
        quote_char=None,
        truncate_ragged_lines=True,
    )
    repeated = table.height - table["message"].n_unique()
    found = find_duplicates(table.select("message"), {"message": "text"})
    assert repeated == 403
    exact = next(kind for kind in found.kinds if kind.name == "exact")
    assert exact.rows - exact.clusters == 403
    near = next(kind for kind in found.kinds if kind.name == "text")
    assert near.rows > 0


def test_imdb_train_and_test(data_dir):
    """All 123 test reviews that stand in the training set too share a cluster with it."""
    folder = data_dir("imdb_with_label_errors")
    train = pl.read_csv(folder / "imdb_train.csv.gz").get_column("text")
    test = pl.read_csv(folder / "imdb_test.csv.gz").get_column("text")
    found = find(pl.concat([train, test]))
    both = set(found.clusters[: len(train)].tolist())
    leaked = np.array([cluster in both for cluster in found.clusters[len(train) :].tolist()])
    same = test.is_in(train.unique().implode()).to_numpy()
    assert same.sum() == 123
    assert leaked[same].all()
    assert leaked.sum() < 400
