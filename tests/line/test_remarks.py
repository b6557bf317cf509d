"""What a run and a proposal say of columns that may have been filled in afterwards."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl

import loopline
from loopline.line.proposal import propose
from loopline.progress import SilentReporter


def told(result: loopline.Result) -> list[str]:
    return [
        finding["sentence"]
        for finding in result.summary["findings"]
        if finding["kind"] == "one_column"
    ]


def test_a_column_that_carries_the_score_is_named(tmp_path: Path):
    """A credit paid to nearly all of those who left is told of, by name, with what to do."""
    rng = np.random.default_rng(1)
    calls = rng.poisson(2.0, 400)
    left = rng.random(400) < 1 / (1 + np.exp(1.5 - 0.4 * calls))
    credit = np.where(left & (rng.random(400) < 0.65), rng.uniform(1, 20, 400).round(2), 0.0)
    bill = rng.normal(40, 9, 400).round(2)
    frame = pl.DataFrame({"calls": calls, "bill": bill, "credit": credit, "left": left})
    result = loopline.fit(
        frame, "left", models=["baseline", "linear"], store=tmp_path, progress=False
    )
    (sentence,) = told(result)
    assert sentence.startswith("The score lives on 'credit': shuffling it worsens auc by 0.")
    assert "role: ignore" in sentence


def test_a_text_may_carry_the_score(tmp_path: Path):
    """Where the only text tells all, that is what a text is for, and nothing is said of it."""
    rng = np.random.default_rng(3)
    spam = rng.random(400) < 0.4
    words = np.array(
        ["lunch", "meeting", "tomorrow", "report", "train", "dinner", "weekend", "office"]
    )
    lures = np.array(["prize", "winner", "claim", "free"])
    text = [
        " ".join([*rng.choice(words, 6), *(rng.choice(lures, 2) if each else ())]) for each in spam
    ]
    frame = pl.DataFrame({"text": text, "size": rng.normal(size=400), "spam": spam})
    result = loopline.fit(
        frame,
        "spam",
        models=["linear"],
        settings={"columns": {"text": {"type": "text"}}, "audit": "report"},
        store=tmp_path,
        progress=False,
    )
    assert result.summary["out_of_fold"]["auc"]["value"] > 0.9
    assert told(result) == []


def test_columns_that_share_the_score_are_not_remarked(finished: loopline.Result):
    """Where two columns carry the score, nothing is said."""
    assert told(finished) == []


def test_a_proposal_tells_of_a_rounded_copy_of_the_target(tmp_path: Path):
    """`loopline init` leaves out a column that is the target in another unit, and says why."""
    rng = np.random.default_rng(2)
    sales = rng.uniform(1e4, 1e5, 300).round(2)
    frame = pl.DataFrame(
        {"x": rng.normal(size=300), "thousands": (sales / 1000).round(1), "sales": sales}
    )
    frame.write_csv(tmp_path / "sales.csv")
    proposal = propose(
        str(tmp_path / "sales.csv"),
        "sales",
        test=None,
        file=tmp_path / "loopline.yaml",
        reporter=SilentReporter(),
    )
    assert proposal.schema.named("thousands").role == "ignore"
    assert any("'sales' in another unit, rounded" in told for told in proposal.sentences)


def test_a_proposal_says_how_to_repair_numbers_with_a_word_among_them(tmp_path: Path):
    """The share of numbers is that of the rows, and the setting that repairs is named."""
    ages = [str(18 + i % 60) if i % 10 else "not told" for i in range(400)]
    frame = pl.DataFrame({"age": ages, "y": [("a", "b")[i % 3 == 0] for i in range(400)]})
    frame.write_csv(tmp_path / "ages.csv")
    proposal = propose(
        str(tmp_path / "ages.csv"),
        "y",
        test=None,
        file=tmp_path / "loopline.yaml",
        reporter=SilentReporter(),
    )
    (sentence,) = [each for each in proposal.sentences if "is text, but" in each]
    assert "90.0% of its values are numbers; not so in 40 of 400 rows" in sentence
    assert sentence.endswith("To repair it: `clean: {mixed_types: repair}`.")


def test_a_score_that_leans_on_few_rows_is_remarked(tmp_path: Path):
    """Where a few test rows carry half of the squared error, the run and its report say so."""
    rng = np.random.default_rng(5)
    size = rng.normal(size=400)
    noise = np.where(rng.random(400) < 0.03, 25.0, 0.3) * rng.standard_normal(400)
    frame = pl.DataFrame({"size": size, "age": rng.normal(size=400), "price": 3 * size + noise})
    result = loopline.fit(
        frame, "price", models=["baseline", "linear"], store=tmp_path, progress=False
    )
    (sentence,) = [
        finding["sentence"]
        for finding in result.summary["findings"]
        if finding["kind"] == "interval"
    ]
    assert re.fullmatch(
        r"rmse on the test rows: \d of \d+ rows carr(y|ies) half of the loss: "
        r"the interval may be too short\.",
        sentence,
    )
    assert sentence.partition(": ")[2] in Path(result.report()).read_text(encoding="utf-8")
