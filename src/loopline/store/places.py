"""Where the bytes of a store lie: the operations that differ between a folder and a URL.

`Store` holds the rules (ids, lineage, keys, reachability); a `Place` only keeps named bytes and
publishes a finished folder so that it is whole or absent. A place is opened once per store, and
used by any number of threads and processes at the same time.
`loopline.testing.store` holds the kit that every place passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from loopline.store.manifest import Manifest


class Place(ABC):
    """Named bytes, and folders that appear whole or not at all.

    Attributes:
        address: the folder or URL as it may be shown: passwords are blanked.
        keeps_copies: True when `file` hands out a local copy that can be fetched again.
    """

    address: str
    keeps_copies: bool

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """All bytes of a small file, None when it is not there."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a small file whole; the last writer wins."""

    @abstractmethod
    def now(self) -> float:
        """The time by the clock that stamps the files, in seconds."""

    @abstractmethod
    def artifacts(self, kind: str | None = None, start: str = "") -> dict[str, float]:
        """Id -> time of last use, of the artifacts of `kind` whose hex begins with `start`."""

    @abstractmethod
    def use(self, artifact_id: str) -> bool:
        """Whether the artifact is there; if so, note that it was used now."""

    @abstractmethod
    def draft(self) -> AbstractContextManager[Path]:
        """An empty local folder; what is left of it at the end is removed."""

    @abstractmethod
    def publish(
        self, draft: Path, manifest: Manifest, check: Callable[[], None], *, replace: bool
    ) -> bool:
        """Make a draft the artifact of `manifest.id`, in one step.

        Args:
            draft: a folder from `draft` whose ``files`` subfolder holds the files.
            manifest: describes them.
            check: runs while nothing can be collected, just before the step; may raise.
            replace: put the draft in the place of what is there, because that is damaged.

        Returns:
            False when one was there already and stays.
        """

    @abstractmethod
    def file(self, manifest: Manifest, name: str, *, fresh: bool = False) -> Path:
        """A local path of one file (`name` ``""``: of the folder of all), not checked yet.

        Args:
            manifest: the artifact.
            name: one of its files.
            fresh: fetch it again although there is a local copy.
        """

    @abstractmethod
    def remove(self, artifact_id: str, unused_since: float) -> bool:
        """Remove an artifact unless it was used after `unused_since`; True when it is gone."""

    @abstractmethod
    def sweep_keys(
        self, older_than: float, is_dead: Callable[[str], bool], *, dry_run: bool
    ) -> int:
        """Remove keys older than `older_than` that are dead; returns how many."""

    @abstractmethod
    def sweep(self, older_than: float, *, dry_run: bool) -> int:
        """Remove what dead writers and collectors left behind; returns how many entries."""

    @abstractmethod
    def scratch(self, name: str) -> Path:
        """A folder on this machine for things that can be made again; made when missing."""
