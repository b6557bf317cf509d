"""What every stage of a run shares, and the one place where a stage is run or found again.

A stage is a function of its inputs and settings. Its key is the digest of its name and version, its
settings and the ids of its inputs; the store remembers which artifact was made for a key. So a
second run finds everything, a changed metric re-ingests nothing, and a killed run goes on from the
last whole artifact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopline import __version__
from loopline.data.snapshot import Snapshot, open_snapshot
from loopline.digest import value_digest
from loopline.errors import IntegrityError, NotFoundError
from loopline.line.spec import Spec
from loopline.progress import Reporter
from loopline.store.artifacts import Artifact, Store
from loopline.store.ledger import Ledger

KEPT_BYTES = 300_000_000
"""A table of up to so many bytes stays in memory from one stage to the next."""
WORDED = ("plan", "structure", "split", "audit", "review", "choice")
"""Stages whose artifacts hold sentences for people. Another version of Loopline may word them
otherwise, so it makes them again; what follows is still found when not a word has changed.
"""


@dataclass
class LineContext:
    """One run in progress.

    Args:
        spec: the checked settings.
        folder: where relative paths of the settings start.
        store: where artifacts go.
        ledger: where events go.
        reporter: who hears of progress.
        open_vault: why test labels may be opened beyond the budget of looks; empty for no reason,
            None to leave them closed whatever the budget.
        run: the run's id; empty until the source was read.
        stages: what each stage gave so far, in order: name, artifact id, seconds, whether found.
        settled: settings as this run decided them where the file left it open (a time budget
            becomes a number of trials), so that its release can be made again.
    """

    spec: Spec
    folder: Path
    store: Store
    ledger: Ledger
    reporter: Reporter
    open_vault: str | None = ""
    run: str = ""
    started: float = field(default_factory=time.monotonic)
    stages: list[dict[str, Any]] = field(default_factory=list)
    settled: dict[str, Any] = field(default_factory=dict)
    _opened: Snapshot | None = field(default=None, repr=False)
    _proved: set[str] = field(default_factory=set, repr=False)

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """A snapshot that several stages read, opened once."""
        if self._opened is None or self._opened.id != snapshot_id:
            self._opened = open_snapshot(self.store, snapshot_id)
        return self._opened

    def let_go(self, snapshot: Snapshot) -> bool:
        """Let the table of a snapshot go from memory, unless it is small; says whether it went."""
        return snapshot.forget(larger_than=KEPT_BYTES)

    def stage(
        self,
        name: str,
        version: int,
        *,
        settings: Any,
        inputs: Mapping[str, str],
        make: Callable[[], Artifact],
        label: str = "",
    ) -> Artifact:
        """Give the artifact of a stage: the one made before for the same key, or a new one.

        Args:
            name: the stage.
            version: raised whenever the stage's code would give another answer.
            settings: plain data; everything but the inputs that the answer depends on.
            inputs: ids of the artifacts it reads.
            make: makes the artifact and puts it into the store.
            label: what progress calls it (default: the name).
        """
        key = stage_key(name, version, settings=settings, inputs=inputs)
        before = time.monotonic()
        known = self.known(key)
        artifact = make() if known is None else known
        if known is None:
            self.store.bind(key, artifact.id)
        entry = {
            "stage": label or name,
            "artifact": artifact.id,
            "seconds": round(time.monotonic() - before, 3),
            "found": known is not None,
        }
        self.stages.append(entry)
        self.ledger.append("stage.finished", run=self.run or None, subject=artifact.id, data=entry)
        return artifact

    def known(self, key: str) -> Artifact | None:
        """The artifact that was made for `key`; None when it, or what it was made from, is damaged.

        A stage may read what its artifact was made from without asking for it by a stage of its
        own (a snapshot), so those are proved too: whoever finds damage makes the whole of it again.
        """
        name = self.store.lookup(key)
        if name is None:
            return None
        try:
            artifact = self.store.get(name)
            for part in (artifact.id, *artifact.inputs.values()):
                if part not in self._proved:
                    self.store.get(part).path()
                    self._proved.add(part)
        except (IntegrityError, NotFoundError) as error:
            self.reporter.note(f"Making {name[:20]}… again: {error}")
            return None
        return artifact

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since this run began in this process."""
        return time.monotonic() - self.started

    def over_budget(self) -> bool:
        """Whether the time budget is used up."""
        budget = self.spec.budget_seconds
        return budget is not None and self.elapsed_seconds >= budget


def stage_key(name: str, version: int, *, settings: Any, inputs: Mapping[str, str]) -> str:
    """The key under which the store remembers what a stage made."""
    return value_digest(
        {
            "stage": name,
            "version": version,
            "settings": settings,
            "inputs": dict(inputs),
            **({"loopline": __version__} if name in WORDED else {}),
        }
    )
