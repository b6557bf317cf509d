"""How good is the ranking of suspicious labels, and does the estimated noise hold the truth?

Three questions, each against a known truth, never by a bare count:

- **re-judged**: the IMDb test reviews, of which five people re-judged 1,310, and the MNIST test
  images, of which they re-judged 100. A label counts as wrong when fewer than 3 of 5 people upheld
  it. Rows that nobody looked at again count as right in `precision_at_least` and are left out of
  `precision_among_judged`.
- **planted**: labels of public tables flipped at 5, 10 and 20 %, symmetric and asymmetric. What was
  wrong in the tables before counts as right, so the precision is a lower bound.
- **coverage**: how often the 95 % interval of the noise rate holds the planted rate, in simulations
  whose classes overlap little and much.

    python benchmarks/label_errors.py [--out benchmarks/results/label_errors.json]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.audit.crossfit import OutOfFold, assign_folds, cross_fit
from loopline.audit.labels import LabelReview, review_labels
from loopline.data.inference import infer_schema
from loopline.data.schema import Column, Schema
from loopline.features.settings import FeatureSettings
from loopline.models.base import FitContext
from loopline.models.families import family
from loopline.splits.views import TrainView
from loopline.testing.splitters import view_of

DATA = Path(os.environ.get("LOOPLINE_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
RATES = (0.05, 0.1, 0.2)
DEPTHS = (25, 50, 100, 200, 400, 800, 1_600, 3_200)
THREADS = 2


def fold_fits(view: TrainView, num_folds: int, text_size: int) -> OutOfFold:
    """A linear model on many text terms, cross-fitted."""
    fold = assign_folds(view, view.units, num_folds=num_folds)
    linear = family("linear")
    rows, said, trained = [], [], []
    for number in range(num_folds):
        here, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        params = linear.resolve({"penalty": 3.0}, view.schema.task, rest.size)
        context = FitContext(0, threads=THREADS, features=FeatureSettings(text_size=text_size))
        model = linear.fit(view.subset(rest), None, params, context)
        rows.append(view.positions[here])
        said.append(model.predict_view(view.subset(here)))
        trained.append(view.positions[rest])
    return OutOfFold.of_folds(view, rows, said, trained, f"linear, {text_size:,} terms")


def ranking(review: LabelReview, wrong: np.ndarray, judged: np.ndarray | None) -> dict[str, Any]:
    """Precision and recall down the list, and of the suspected rows."""
    order = review.order
    found = np.cumsum(wrong[order])
    known = np.ones(wrong.size, dtype=bool) if judged is None else judged
    seen = np.cumsum(known[order])
    rows = [
        {
            "looked_at": depth,
            "precision_at_least": round(float(found[depth - 1] / depth), 4),
            "precision_among_judged": round(float(found[depth - 1] / max(seen[depth - 1], 1)), 4),
            "recall": round(float(found[depth - 1] / wrong.sum()), 4),
        }
        for depth in DEPTHS
        if depth <= order.size
    ]
    hit = int((wrong & review.suspected).sum())
    return {
        "rows": int(order.size),
        "wrong": int(wrong.sum()),
        "judged": int(known.sum()),
        "curve": rows,
        "suspected": review.num_suspected,
        "suspected_precision_at_least": round(hit / max(review.num_suspected, 1), 4),
        "suspected_recall": round(hit / wrong.sum(), 4),
        "base_rate": round(float(wrong.mean()), 4),
        "noise_rate": review.noise_rate.to_dict(),
        "ceiling": review.ceiling.to_dict(),
        "model": review.model,
    }


def accuracy(out: OutOfFold) -> float:
    return round(float((out.prediction.argmax(1) == out.view.target).mean()), 4)


def imdb(text_size: int) -> dict[str, Any]:
    folder = DATA / "imdb_with_label_errors"
    frame = pl.read_csv(folder / "imdb_test.csv.gz")
    schema = Schema(
        (Column("text", "text"), Column("sentiment", "category", "target")),
        "binary",
        ("neg", "pos"),
    )
    view = view_of(frame.select("text", "sentiment"), schema)
    out = fold_fits(view, 4, text_size)
    place = {name: row for row, name in enumerate(frame["id"].to_list())}
    judged = np.zeros(frame.height, dtype=bool)
    wrong = judged.copy()
    for entry in json.loads((folder / "imdb_mturk.json").read_text()):
        row = place[entry["id"]]
        judged[row], wrong[row] = True, entry["mturk"]["given"] < 3
    return {"accuracy": accuracy(out), **ranking(review_labels(out), wrong, judged)}


def gradients(pixels: np.ndarray) -> np.ndarray:
    """Edges in 8 directions, summed over a 7 x 7 grid of 4 x 4 pixels: (images, 392)."""
    down = np.gradient(pixels, axis=1)
    right = np.gradient(pixels, axis=2)
    size = np.hypot(down, right)
    way = ((np.arctan2(down, right) + np.pi) / (2 * np.pi) * 8).astype(int) % 8
    cells = np.stack([np.where(way == k, size, 0.0) for k in range(8)], axis=-1)
    grid = cells.reshape(len(pixels), 7, 4, 7, 4, 8).sum(axis=(2, 4))
    return grid.reshape(len(pixels), -1)


def mnist() -> dict[str, Any]:
    from PIL import Image

    folder = DATA / "mnist_png_label_errors"
    pixels, labels = np.zeros((10_000, 28, 28)), np.zeros(10_000, dtype=np.int64)
    with zipfile.ZipFile(folder / "mnist_png.zip") as archive:
        for name in archive.namelist():
            if name.startswith("test/") and name.endswith(".png"):
                number = int(Path(name).stem) - 60_000
                labels[number] = int(name.split("/")[1])
                with Image.open(io.BytesIO(archive.read(name))) as image:
                    pixels[number] = np.asarray(image, dtype=np.float64) / 255.0
    features = gradients(pixels)
    names = [f"e{i}" for i in range(features.shape[1])]
    columns = (*(Column(name, "number") for name in names), Column("y", "category", "target"))
    schema = Schema(columns, "multiclass", tuple(range(10)))
    frame = pl.DataFrame(features, schema=names).with_columns(pl.Series("y", labels))
    view = view_of(frame, schema)
    folds = assign_folds(view, view.units, num_folds=4)
    out = cross_fit(view, folds, model="linear", params={"penalty": 100.0}, threads=THREADS)
    judged = np.zeros(10_000, dtype=bool)
    wrong = judged.copy()
    for entry in json.loads((folder / "mnist_mturk.json").read_text()):
        judged[entry["id"]], wrong[entry["id"]] = True, entry["mturk"]["given"] < 3
    return {"accuracy": accuracy(out), **ranking(review_labels(out), wrong, judged)}


def flipped(labels: np.ndarray, classes: int, rate: float, kind: str, seed: int) -> np.ndarray:
    """Symmetric: any class to any other. Asymmetric: classes of even code to the next one."""
    rng = np.random.default_rng(seed)
    new = labels.copy()
    if kind == "symmetric":
        hit = rng.random(labels.size) < rate
        new[hit] = (labels[hit] + rng.integers(1, classes, int(hit.sum()))) % classes
        return new
    source = labels % 2 == 0
    hit = source & (rng.random(labels.size) < rate / source.mean())
    new[hit] = (labels[hit] + 1) % classes
    return new


def tables() -> list[tuple[str, pl.DataFrame, Schema]]:
    made = []
    titanic = pl.read_csv(DATA / "titanic/titanic.csv", null_values=[""])
    kept = ["pclass", "sex", "age", "sibsp", "parch", "fare", "embarked", "survived"]
    made.append(("titanic", titanic.select(kept), "survived"))
    adult = pl.read_csv(DATA / "adult/adult.data", has_header=False).with_columns(
        pl.col(pl.String).str.strip_chars()
    )
    adult = adult.rename({adult.columns[-1]: "income"}).drop_nulls("income")
    made.append(("adult", adult, "income"))
    return [(name, f, infer_schema(f, target=target)) for name, f, target in made]


def planted(seed: int) -> list[dict[str, Any]]:
    results = []
    for name, frame, schema in tables():
        target = schema.target
        codes = view_of(frame, schema).target
        for kind in ("symmetric", "asymmetric"):
            for rate in RATES:
                new = flipped(codes, len(schema.classes), rate, kind, seed)
                labels = pl.Series(target, [schema.classes[code] for code in new.tolist()])
                view = view_of(frame.with_columns(labels), schema)
                fold = assign_folds(view, view.units)
                out = cross_fit(view, fold, threads=THREADS)
                wrong = new != codes
                told = ranking(review_labels(out), wrong, None)
                results.append(
                    {"table": name, "kind": kind, "rate": round(float(wrong.mean()), 4), **told}
                )
    return results


def coverage(repeats: int) -> list[dict[str, Any]]:
    """Normal classes at a given distance; `overlap` is what the best possible rule gets wrong."""
    results = []
    for model in ("lightgbm", "linear"):
        for classes, apart in ((2, 2.0), (2, 4.0), (3, 3.0), (10, 4.0), (10, 6.0)):
            for kind in ("symmetric", "asymmetric"):
                results += [_covered(model, classes, apart, kind, rate, repeats) for rate in RATES]
    return results


def _covered(
    model: str, classes: int, apart: float, kind: str, rate: float, repeats: int
) -> dict[str, Any]:
    held, widths, values, overlap, off = 0, [], [], [], []
    for seed in range(repeats):
        rng = np.random.default_rng(1_000 + seed)
        centres = rng.normal(size=(classes, 6))
        if classes == 2:
            centres[1] = -centres[0]
        centres *= (
            apart / np.linalg.norm(centres, axis=1, keepdims=True) / (2 if classes == 2 else 1)
        )
        labels = rng.integers(0, classes, 2_000)
        points = centres[labels] + rng.normal(size=(2_000, 6))
        nearest = ((points[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
        overlap.append(float((nearest != labels).mean()))
        new = flipped(labels, classes, rate, kind, seed)
        names = [f"x{i}" for i in range(6)]
        columns = (*(Column(n, "number") for n in names), Column("y", "category", "target"))
        task = "binary" if classes == 2 else "multiclass"
        schema = Schema(columns, task, tuple(range(classes)))
        frame = pl.DataFrame(points, schema=names).with_columns(pl.Series("y", new))
        view = view_of(frame, schema)
        out = cross_fit(view, assign_folds(view, view.units), model=model, threads=THREADS)
        review = review_labels(out, seed=seed)
        found, truth = review.noise_rate, float((new != labels).mean())
        held += found.low <= truth <= found.high
        values.append(found.value - truth)
        off.append(review.joint.off_diagonal - truth)
        widths.append(found.high - found.low)
    return {
        "model": model,
        "classes": classes,
        "overlap": round(float(np.mean(overlap)), 4),
        "kind": kind,
        "rate": rate,
        "repeats": repeats,
        "coverage": round(held / repeats, 4),
        "mean_error": round(float(np.mean(values)), 4),
        "mean_width": round(float(np.mean(widths)), 4),
        "mean_error_of_the_plain_confident_joint": round(float(np.mean(off)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--text-size", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    start = time.perf_counter()
    results: dict[str, Any] = {}
    for name, make in (
        ("mnist", mnist),
        ("imdb", lambda: imdb(given.text_size)),
        ("planted", lambda: planted(given.seed)),
        ("coverage", lambda: coverage(given.repeats)),
    ):
        results[name] = make()
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        if given.out:
            given.out.write_text(json.dumps(results, indent=1) + "\n")
    shares = [row["coverage"] for row in results["coverage"]]
    results["mean_coverage"] = round(float(np.mean(shares)), 4)
    print(json.dumps({k: v for k, v in results.items() if k != "coverage"}, indent=1))
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
