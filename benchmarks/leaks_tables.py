"""Real tables without a leak, and honest simulations: what leaks are planted into, and controls.

Columns that a table's own description calls a copy of another, of the target or of nothing at all
(weights, ids) are taken out, and so are rows that are equal in every feature.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from loopline.data.schema import Task

DATA = Path(os.environ.get("LOOPLINE_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
ADULT = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]


@dataclass(frozen=True)
class Base:
    """A table to plant leaks into.

    Args:
        name: its name.
        frame: its rows, no two of them equal in every feature.
        target: what is predicted.
        task: "binary", "multiclass" or "regression".
    """

    name: str
    frame: pl.DataFrame
    target: str
    task: Task

    @property
    def features(self) -> list[str]:
        """All columns but the target."""
        return [name for name in self.frame.columns if name != self.target]

    def parts(self, num_rows: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Rows to plant into, and the untouched rest, which is the truth."""
        order = np.random.default_rng(seed).permutation(self.frame.height)
        return self.frame[order[:num_rows]], self.frame[order[num_rows:]]


def base(name: str, frame: pl.DataFrame, target: str, task: Task) -> Base:
    """A base without rows whose features stand there twice, in a random order."""
    features = [column for column in frame.columns if column != target]
    frame = frame.filter(pl.col(target).is_not_null())
    alone = frame.unique(subset=features, keep="none", maintain_order=True)
    return Base(name, alone.sample(fraction=1.0, shuffle=True, seed=0), target, task)


@cache
def adult() -> pl.DataFrame:
    frames = [
        pl.read_csv(
            DATA / f"adult/adult.{part}", has_header=False, new_columns=ADULT,
            skip_rows=int(part == "test"), null_values=[" ?", "?"], infer_schema_length=0,
        ).with_columns(pl.all().str.strip_chars())
        for part in ("data", "test")
    ]  # fmt: skip
    frame = pl.concat(frames).with_columns(pl.col("income").str.strip_chars_end("."))
    numbers = ["age", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
    frame = frame.with_columns(pl.col(numbers).cast(pl.Int64))
    return frame.filter(pl.col("income").is_not_null()).drop("fnlwgt", "education")


@cache
def california() -> pl.DataFrame:
    frame = pl.read_csv(DATA / "california_housing/housing.csv", infer_schema_length=None)
    return frame.filter(pl.col("median_house_value") < 500_000)


@cache
def telco() -> pl.DataFrame:
    path = DATA / "telco_churn/Telco-Customer-Churn.csv"
    return pl.read_csv(path, null_values=" ").drop("customerID")


@cache
def wine() -> pl.DataFrame:
    return pl.read_csv(DATA / "wine_quality/wine_quality.csv", infer_schema_length=None)


@cache
def higgs() -> pl.DataFrame:
    folder = DATA / "lightgbm_examples/binary_classification"
    frame = pl.concat(
        pl.read_csv(folder / f"binary.{part}", separator="\t", has_header=False,
                    infer_schema_length=None)
        for part in ("train", "test")
    )  # fmt: skip
    names = ["signal", *(f"m{number:02d}" for number in range(1, 29))]
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


def above(frame: pl.DataFrame, name: str, target: str) -> pl.DataFrame:
    """A number as two classes: above its median or not."""
    high = frame[name] > frame[name].median()
    said = pl.Series(target, np.where(high.to_numpy(), "high", "low"))
    return frame.drop(name).with_columns(said)


@cache
def classes() -> tuple[Base, ...]:
    """Five real tables of two classes, each with many more rows than leaks are planted into."""
    good = wine().with_columns(
        pl.Series("good", np.where(wine()["quality"].to_numpy() >= 6, "yes", "no"))
    )
    return (
        base("adult", adult(), "income", "binary"),
        base("telco", telco(), "Churn", "binary"),
        base("wine", good.drop("quality"), "good", "binary"),
        base("higgs", higgs(), "signal", "binary"),
        base("california", above(california(), "median_house_value", "price"), "price", "binary"),
    )


@cache
def numbers() -> tuple[Base, ...]:
    """Five real tables with a number to predict."""
    return (
        base("california", california(), "median_house_value", "regression"),
        base("wine", wine().with_columns(pl.col("quality").cast(pl.Float64)), "quality",
             "regression"),
        base("adult age", adult(), "age", "regression"),
        base("telco tenure", telco().drop("TotalCharges"), "tenure", "regression"),
        base("higgs m28", higgs().drop("signal"), "m28", "regression"),
    )  # fmt: skip


@cache
def separable() -> tuple[Base, ...]:
    """Five real tables whose classes hardly overlap: there a wrong label can be told from luck."""
    from sklearn.datasets import load_breast_cancer, load_digits

    cancer, digits = load_breast_cancer(), load_digits()
    tumour = pl.DataFrame(cancer.data, schema=[str(name) for name in cancer.feature_names])
    pixels = pl.DataFrame(digits.data, schema=[f"p{number:02d}" for number in range(64)])
    mild = pl.Series("tumour", np.where(cancer.target == 1, "benign", "malignant"))
    digit = pl.Series("digit", [f"d{number}" for number in digits.target])
    return (
        base("breast cancer", tumour.with_columns(mild), "tumour", "binary"),
        base("digits", pixels.with_columns(digit), "digit", "multiclass"),
        base("wine colour", wine().drop("quality"), "type", "binary"),
        texts()[0],
        texts()[1],
    )


@cache
def texts() -> tuple[Base, ...]:
    """Five collections of real texts."""
    sms = pl.read_csv(DATA / "sms_spam/smsspamcollection.tsv", separator="\t", quote_char=None)
    news = pl.read_csv(DATA / "ag_news_test/test.csv", infer_schema_length=None)
    topics = pl.Series(["world", "sports", "business", "science"])
    news = news.select(
        pl.concat_str("title", "description", separator=". ").alias("text"),
        pl.Series("topic", topics.gather(news["label"] - 1)),
    )
    bank = pl.read_csv(DATA / "banking77/train.csv")
    frequent = bank["category"].value_counts(sort=True)["category"].head(8)
    bank = bank.filter(pl.col("category").is_in(frequent.to_list()))
    films = pl.read_csv(DATA / "imdb_with_label_errors/imdb_test.csv.gz").sample(4_000, seed=1)
    lines = (DATA / "gsm8k/train.jsonl").read_text().splitlines()
    sums = [json.loads(line) for line in lines]
    steps = [entry["answer"].count("<<") for entry in sums]
    gsm = pl.DataFrame(
        {
            "text": [entry["question"] for entry in sums],
            "steps": ["many" if number > 3 else "few" for number in steps],
        }
    )
    return (
        base("sms", sms.select(pl.col("message").alias("text"), "label"), "label", "binary"),
        base("ag_news", news, "topic", "multiclass"),
        base("banking77", bank, "category", "multiclass"),
        base("imdb", films.select("text", "sentiment"), "sentiment", "binary"),
        base("gsm8k", gsm, "steps", "binary"),
    )


# --- controls: nothing is planted, nothing may be stopped or divided otherwise --------------------


def _columns_and_rows(whole: Base, seed: int, num_columns: int, num_rows: int) -> Base:
    rng = np.random.default_rng(seed)
    names = sorted(rng.choice(whole.features, min(num_columns, len(whole.features)), replace=False))
    part = whole.frame.sample(min(num_rows, whole.frame.height), seed=seed)
    found = base("", part.select(*names, whole.target), whole.target, whole.task)
    return Base(f"{whole.name}, {len(names)} columns, seed {seed}", found.frame, whole.target,
                whole.task)  # fmt: skip


def controls() -> list[Base]:
    """At least forty clean tables: real ones, random parts of them, and honest simulations."""
    from sklearn.datasets import load_diabetes, load_iris, load_wine

    found = [
        Base(each.name, each.frame.head(4_000), each.target, each.task)
        for each in (*classes(), *numbers(), *separable()[:3])
    ]
    found += [Base(each.name, each.frame.head(1_500), each.target, each.task) for each in texts()]
    for name, load in (("iris", load_iris), ("cultivars", load_wine)):
        data = load()
        frame = pl.DataFrame(data.data, schema=[str(each) for each in data.feature_names])
        kind = pl.Series("kind", [f"k{number}" for number in data.target])
        found.append(base(name, frame.with_columns(kind), "kind", "multiclass"))
    sick = load_diabetes()
    frame = pl.DataFrame(sick.data, schema=[str(each) for each in sick.feature_names])
    found.append(base("diabetes", frame.with_columns(pl.Series("progress", sick.target)),
                      "progress", "regression"))  # fmt: skip
    screen = pl.read_csv(DATA / "mammography/mammography.csv", has_header=False)
    found.append(base("mammography", screen, screen.columns[-1], "binary"))
    for seed in range(1, 4):
        found += [_columns_and_rows(whole, seed, 7, 1_500) for whole in classes()]
    for seed in range(1, 3):
        found.append(_columns_and_rows(numbers()[0], seed, 5, 1_500))
        found.append(_columns_and_rows(separable()[1], seed, 24, 1_200))
    found += [base(name, *make(np.random.default_rng(11))) for name, make in SIMULATED.items()]
    return found


def _noise(rng: np.random.Generator) -> tuple[pl.DataFrame, str, Task]:
    frame = pl.DataFrame({f"x{number}": rng.normal(size=1_500) for number in range(8)})
    return frame.with_columns(pl.Series("y", rng.choice(["a", "b"], 1_500))), "y", "binary"


def _company(rng: np.random.Generator) -> tuple[pl.DataFrame, str, Task]:
    """One very strong honest column (AUC about 0.99) and four that measure the same, worse."""
    hidden = rng.normal(size=1_500)
    frame = pl.DataFrame(
        {f"x{number}": hidden + rng.normal(size=1_500) * (0.12 + 0.2 * number)
         for number in range(5)}
    )  # fmt: skip
    return frame.with_columns(pl.Series("y", np.where(hidden > 0, "a", "b"))), "y", "binary"


def _clear(rng: np.random.Generator) -> tuple[pl.DataFrame, str, Task]:
    """Three classes that any of four columns tells apart."""
    code = rng.integers(0, 3, 1_200)
    frame = pl.DataFrame({f"x{number}": code * 4 + rng.normal(size=1_200) for number in range(4)})
    return frame.with_columns(pl.Series("y", [f"c{each}" for each in code])), "y", "multiclass"


def _line(rng: np.random.Generator) -> tuple[pl.DataFrame, str, Task]:
    """A number that follows from six measured ones with an R2 of about 0.97."""
    x = rng.normal(size=(1_500, 6))
    y = x @ np.array([3.0, 2.0, 1.0, 1.0, 0.5, 0.5]) + rng.normal(size=1_500) * 0.7
    frame = pl.DataFrame(x, schema=[f"x{number}" for number in range(6)])
    return frame.with_columns(pl.Series("y", y)), "y", "regression"


def _shop(rng: np.random.Generator) -> tuple[pl.DataFrame, str, Task]:
    """Orders: an honest id, a date that means nothing, towns, missing cells at random."""
    price, number = rng.lognormal(3, 1, 2_000).round(2), rng.integers(1, 9, 2_000)
    late = rng.random(2_000) < 1 / (1 + np.exp(2 - number / 3 - np.log(price) / 4))
    days = rng.integers(0, 365, 2_000)
    frame = pl.DataFrame(
        {
            "order_id": rng.permutation(2_000) + 10_000,
            "town": rng.choice([f"town {each}" for each in range(40)], 2_000),
            "price": np.where(rng.random(2_000) < 0.1, np.nan, price),
            "number": number,
            "due_date": np.datetime64("2025-01-01") + days.astype("timedelta64[D]"),
        }
    )
    frame = frame.with_columns(pl.col("price").fill_nan(None))
    return frame.with_columns(pl.Series("late", np.where(late, "yes", "no"))), "late", "binary"


def _rare(rng: np.random.Generator) -> tuple[pl.DataFrame, str, Task]:
    """Four in a hundred rows are of the class that is asked for; many cells are zero."""
    x = np.where(rng.random((3_000, 6)) < 0.6, 0.0, rng.lognormal(size=(3_000, 6)))
    fraud = rng.random(3_000) < 1 / (1 + np.exp(4.5 - x[:, 0] - 0.5 * x[:, 1]))
    frame = pl.DataFrame(x, schema=[f"x{number}" for number in range(6)])
    return frame.with_columns(pl.Series("fraud", fraud.astype(np.int64))), "fraud", "binary"


def _counts(rng: np.random.Generator) -> tuple[pl.DataFrame, str, Task]:
    """Whole numbers of few values whose sum drives a count, with the noise of counting."""
    x = rng.integers(0, 9, (2_000, 7))
    y = rng.poisson(np.exp(0.08 * x.sum(axis=1)))
    frame = pl.DataFrame(x, schema=[f"x{number}" for number in range(7)])
    return frame.with_columns(pl.Series("y", y.astype(np.float64))), "y", "regression"


SIMULATED: dict[str, Callable[[np.random.Generator], tuple[pl.DataFrame, str, Task]]] = {
    "noise": _noise,
    "a strong column in company": _company,
    "clear classes": _clear,
    "a straight line": _line,
    "orders": _shop,
    "a rare class": _rare,
    "counts": _counts,
}
