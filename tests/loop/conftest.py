"""A small shop whose customers change: tables with known truth, and a controller over them."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from loopline.line.files import read_line
from loopline.line.project import Project, open_project
from loopline.loop.controller import Controller
from loopline.loop.diary import Entry
from loopline.loop.steady import Clock
from loopline.loop.watching import Notice
from loopline.progress import SilentReporter

SETTINGS: dict[str, Any] = {
    "data": {"source": "data/*.csv"},
    "name": "shop",
    "target": "bought",
    "models": ["baseline", "linear"],
    "threads": 1,
    "split": {"folds": 3},
    "loop": {"settle": 0, "patience": 60},
}


def customers(
    num_rows: int, seed: int, *, turned: bool = False, flipped: float = 0
) -> pl.DataFrame:
    """Customers who buy where x is high and z is low; `turned`: where both are high.

    Args:
        num_rows: how many.
        seed: of the draw.
        turned: whether the world has changed.
        flipped: share of labels that are wrong.
    """
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=num_rows), rng.normal(size=num_rows)
    buys = 1.5 * x + (z if turned else -z) + rng.normal(scale=0.7, size=num_rows) > 0
    buys ^= rng.random(num_rows) < flipped
    city = rng.choice(["Bonn", "Kyoto", "Lima"], num_rows)
    return pl.DataFrame({"x": x, "z": z, "city": city, "bought": np.where(buys, "yes", "no")})


@dataclass
class FakeClock:
    """Two clocks that tests move; the files' own times are the machine's."""

    offset: float = 0.0
    ticks: float = 0.0

    def clock(self) -> Clock:
        return Clock(lambda: time.time() + self.offset, lambda: self.ticks, lambda seconds: None)


@dataclass
class FakeWatch:
    """A monitor that says what the test gave it, and remembers what it was shown."""

    notices: list[Notice] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)

    def look(self, champion: Any, rows: pl.DataFrame, bounds: Any = ()) -> list[Notice]:
        del champion, bounds
        self.shown.append(rows.height)
        return self.notices


@dataclass
class Shop:
    """A project folder with a controller."""

    folder: Path
    time: FakeClock = field(default_factory=FakeClock)
    watch: FakeWatch = field(default_factory=FakeWatch)

    def settings(self, **more: Any) -> None:
        data = {**SETTINGS, **more}
        data["loop"] = {**SETTINGS["loop"], **more.get("loop", {})}
        (self.folder / "loopline.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")

    def put(self, name: str, frame: pl.DataFrame) -> Path:
        file = self.folder / "data" / name
        frame.write_csv(file)
        old = time.time() - 100
        os.utime(file, (old, old))
        return file

    def project(self) -> Project:
        return open_project(self.folder / ".loopline")

    def look(self) -> list[Entry]:
        """What one look of a fresh controller adds to the diary."""
        with self.project() as project:
            line = read_line(self.folder)
            controller = Controller(
                project, line, SilentReporter(), watch=self.watch, clock=self.time.clock()
            )
            return controller.once()

    def champion(self) -> str:
        with self.project() as project:
            return project.aliases.get("shop", "champion")


def told(entries: list[Entry], what: str) -> list[str]:
    """The sentences of one kind."""
    return [entry.sentence for entry in entries if entry.what == what]


@pytest.fixture(scope="session")
def _opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    (shop.folder / "data").mkdir()
    shop.settings()
    shop.put("a.csv", customers(1000, 0))
    shop.look()
    return shop.folder


@pytest.fixture
def shop(_opened: Path, tmp_path: Path) -> Shop:
    """A shop whose first champion is made, in a folder of its own."""
    folder = tmp_path / "shop"
    shutil.copytree(_opened, folder)
    return Shop(folder)
