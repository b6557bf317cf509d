"""Retrainings that must not be promoted, and some that must: the real controller, end to end.

Every scenario is a folder with a first champion. Files come one after another, the controller looks
once after each, and the line is really run. Whether a promotion did harm is judged by 20,000 rows
of the true world that nobody else sees.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from loopline.line.files import read_line
from loopline.line.project import open_project
from loopline.loop.attempt import answers
from loopline.loop.controller import Controller
from loopline.loop.diary import Diary
from loopline.loop.doubt import losses
from loopline.loop.monitored import MonitorWatch
from loopline.progress import SilentReporter

SETTINGS: dict[str, Any] = {
    "data": {"source": "data/*.csv"}, "name": "shop", "target": "bought",
    "columns": {"who": {"role": "ignore"}}, "models": ["baseline", "linear"], "threads": 1,
    "split": {"folds": 3},
}  # fmt: skip
ROWS = 900
HARM = 0.005
"""A rise of the log loss in the true world that counts as harm."""


def world(
    rows: int, seed: int, *, turn: float = 0.0, lift: float = 0.0, older: float = 0.0
) -> pl.DataFrame:
    """Customers: who buys follows a direction in (x, z), which turns, and a level, which lifts.

    `older` moves the inputs by so many standard deviations.
    """
    rng = np.random.default_rng([seed, rows])
    x, z, w = rng.normal(10, 3, rows), rng.normal(50, 8, rows), rng.normal(size=rows)
    x = x + 3 * older
    u, v = (x - 10) / 3, (z - 50) / 8
    angle = np.deg2rad(turn)
    score = 2 * (np.cos(angle) * u + np.sin(angle) * v) + 0.6 * w + lift
    y = score + rng.logistic(size=rows) > 0
    return pl.DataFrame(
        {
            "x": x, "z": z, "w": w, "city": rng.choice(["Bonn", "Kyoto", "Lima"], rows),
            "who": rng.choice(["north", "south", "west"], rows),
            "bought": np.where(y, "yes", "no"),
        }
    )  # fmt: skip


def flipped(frame: pl.DataFrame, mask: np.ndarray) -> pl.DataFrame:
    """The other label where the mask says so."""
    y = frame["bought"].to_numpy()
    other = np.where(y == "yes", "no", "yes")
    return frame.with_columns(bought=pl.Series(np.where(mask, other, y)))


def set_no(frame: pl.DataFrame, mask: np.ndarray) -> pl.DataFrame:
    """The label no where the mask says so."""
    y = frame["bought"].to_numpy()
    return frame.with_columns(bought=pl.Series(np.where(mask, "no", y)))


@dataclass(frozen=True)
class Scenario:
    """What comes.

    Args:
        group: harmful, good or blind (what nothing in the data can tell).
        kind: in words.
        files: the tables that come, one a look.
        truth: the world at the end.
        loop: the `loop` settings.
        first_rows: rows of the first champion.
    """

    group: str
    kind: str
    files: list[pl.DataFrame]
    truth: dict[str, float]
    loop: dict[str, Any]
    seed: int
    first_rows: int = 2_000


def harmful(seed: int) -> Iterator[Scenario]:
    """Twenty scenarios a seed: poison, broken columns, tiny windows; a clean file comes last."""
    rng = np.random.default_rng(seed)
    loop = {"new_labels": 500}

    def clean(k: int) -> pl.DataFrame:
        return world(ROWS, 100 * seed + k)

    def region(frame: pl.DataFrame) -> np.ndarray:
        return frame["x"].to_numpy() > 10.5

    def one(kind: str, *bad: pl.DataFrame, **settings: Any) -> Scenario:
        return Scenario("harmful", kind, [*bad, clean(9)], {}, {**loop, **settings}, seed)

    a, b, c = clean(1), clean(2), clean(3)
    everything = np.ones(ROWS, bool)
    yield one("30 % of labels flipped at random", flipped(a, rng.random(ROWS) < 0.3))
    yield one("45 % of labels flipped at random", flipped(a, rng.random(ROWS) < 0.45))
    yield one("all labels swapped, one file", flipped(a, everything))
    yield one("all labels swapped, three files", *(flipped(f, everything) for f in (a, b, c)))
    yield one("80 % of labels swapped", flipped(a, rng.random(ROWS) < 0.8))
    yield one("60 % of one class relabelled", set_no(a, rng.random(ROWS) < 0.6))
    yield one("all labels no", set_no(a, everything))
    yield one("a region relabelled", set_no(a, region(a)))
    yield one("a region flipped", flipped(a, region(a)))
    yield one(
        "a region flipped, the newest rows clean", flipped(a, region(a) & (np.arange(ROWS) < 600))
    )
    south = [set_no(f, region(f) & (f["who"] == "south").to_numpy()) for f in (a, b, c)]
    yield one("a region relabelled by one origin, three files", *south, origin="who")
    yield one("all labels of one origin swapped, three files", *(
        flipped(f, (f["who"] == "south").to_numpy()) for f in (a, b, c)), origin="who")  # fmt: skip
    yield one("a column empty", a.with_columns(x=pl.lit(None, pl.Float64)))
    yield one("a column in another unit", a.with_columns(x=pl.col("x") * 1000))
    yield one("two columns swapped", a.with_columns(x=pl.col("z"), z=pl.col("x")))
    yield one("a column frozen", a.with_columns(x=pl.lit(7.5)))
    yield one("a column shuffled", a.with_columns(x=pl.Series(rng.permutation(a["x"].to_numpy()))))
    yield one("a column gone", a.drop("x"))
    yield one("a window of 30 rows", a, b, window="30 rows")
    yield one("a window of 100 rows", a, b, window="100 rows")


def good(seed: int) -> Iterator[Scenario]:
    """Twenty scenarios a seed: the world moves, labels are right, a new model is better."""
    for k in range(5):
        s = 10_000 + 100 * seed + 10 * k
        turn, lift = {"turn": 45.0 + 15 * k}, {"lift": 1.0 + 0.3 * k}
        both = {**turn, "older": 0.3 + 0.1 * k}
        slow = [world(ROWS, s + j, turn=turn["turn"] * j / 4) for j in range(1, 5)]
        for kind, truth, files in (
            ("the concept turns at once", turn, [world(ROWS, s + j, **turn) for j in range(3)]),
            ("one class gets more frequent", lift, [world(ROWS, s + j, **lift) for j in range(3)]),
            ("the concept turns file by file", turn, slow),
            ("inputs and concept move", both, [world(ROWS, s + j, **both) for j in range(3)]),
        ):
            yield Scenario("good", kind, files, truth, {}, seed)


def blind(seed: int) -> Iterator[Scenario]:
    """What no rule can tell from a world that changed: everybody gives the same wrong labels."""
    files = [world(ROWS, 20_000 + 100 * seed + j) for j in range(3)]
    bad = [set_no(f, f["x"].to_numpy() > 10.5) for f in files]
    cleans = [world(ROWS, 21_000 + 100 * seed + j) for j in range(3)]
    yield Scenario("blind", "a region relabelled by all, three files, then three clean ones",
                   [*bad, *cleans], {}, {}, seed)  # fmt: skip


def put(folder: Path, name: str, frame: pl.DataFrame) -> None:
    """A file that has been quiet for a while."""
    file = folder / "data" / name
    frame.write_csv(file)
    then = time.time() - 1_000
    os.utime(file, (then, then))


def opened(place: Path, scenario: Scenario) -> Path:
    """A folder with the scenario's first champion; made once for each seed and size."""
    base = place / f"base-{scenario.seed}-{scenario.first_rows}"
    if not base.exists():
        (base / "data").mkdir(parents=True)
        settle(base, {})
        put(base, "a.csv", world(scenario.first_rows, scenario.seed))
        look(base)
    folder = place / "scenario"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    settle(folder, scenario.loop)
    return folder


def settle(folder: Path, loop: dict[str, Any]) -> None:
    """The settings file."""
    (folder / "loopline.yaml").write_text(yaml.safe_dump(SETTINGS | {"loop": loop}), "utf-8")


def look(folder: Path) -> list[Any]:
    """One look of a fresh controller."""
    with open_project(folder / ".loopline") as project:
        controller = Controller(project, read_line(folder), SilentReporter(), watch=MonitorWatch())
        return controller.once()


def play(place: Path, scenario: Scenario) -> dict[str, Any]:
    """What the loop did, and whether any of its promotions did harm in the true world."""
    began = time.monotonic()
    folder = opened(place, scenario)
    for number, frame in enumerate(scenario.files):
        put(folder, f"b{number}.csv", frame)
        news = look(folder)
        if scenario.group == "good" and any(e.data.get("promoted") for e in news):
            break
    truth = world(20_000, 77_777 + scenario.seed, **scenario.truth)
    with open_project(folder / ".loopline") as project:
        entries = Diary(project.ledger, "shop").entries()
        loss = {}

        def loss_of(name: str) -> float:
            if name not in loss:
                loss[name] = float(losses(answers(project.release(name), truth)).mean())
            return loss[name]

        promoted = [e for e in entries if e.what == "decided" and e.data["promoted"]]
        harms = [
            loss_of(e.data["challenger"]) - loss_of(e.data["champion"]) > HARM for e in promoted
        ]
        decided = [e for e in entries if e.what == "decided"]
        history = project.aliases.history("shop", "champion")
        final = loss_of(str(history[-1].release)) - loss_of(str(history[0].release))
    return {
        "group": scenario.group, "kind": scenario.kind, "seed": scenario.seed,
        "looks": number + 1,
        "attempts": len(decided), "promoted": len(promoted), "harmful": sum(harms),
        "held": sum(e.what == "held" for e in entries),
        "rolled_back": sum(e.what == "rolled_back" for e in entries),
        "loss_at_the_end": round(final, 4),
        "seconds": round(time.monotonic() - began, 1),
        "why": [e.sentence for e in decided],
    }  # fmt: skip


def campaign(seeds: range, tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """All scenarios of some seeds, one seed after another."""
    with tempfile.TemporaryDirectory(prefix="loopline-loop-") as place:
        for seed in seeds:
            for scenario in (*harmful(seed), *good(seed), *blind(seed)):
                last = play(Path(place), scenario)
                tell(
                    f"{last['group']:8} {last['kind'][:50]:50} attempts {last['attempts']} "
                    f"promoted {last['promoted']} harmful {last['harmful']} held {last['held']}"
                    f" back {last['rolled_back']} end {last['loss_at_the_end']:+.3f} "
                    f"{last['seconds']:.0f} s"
                )
                yield last
