"""A line under torchrun: the first process runs it, the others train its networks with it.

All of them are started with the same command. The others wait at torchrun's own store until the
first announces a fit by the folder of its job, train their part of it, and wait again, until the
first has come to its end.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopline.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loopline.engine.layout import Layout

_ANNOUNCED = "loopline/fit/"
_END = ""
_PATIENCE = timedelta(days=1)
"""How long the others wait for the next fit; torchrun ends them when the first one dies."""
_fits = 0


def num_started(environment: Mapping[str, str] | None = None) -> int:
    """Processes that torchrun started together; 1 without it.

    >>> num_started({"WORLD_SIZE": "4"}), num_started({})
    (4, 1)
    """
    found = os.environ if environment is None else environment
    return int(found.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process is the one that runs the line."""
    return int(os.environ.get("RANK", "0")) == 0


def announce(folder: Path, layout: str) -> Layout:
    """Tell the others of a fit, and join them; for the first process.

    Args:
        folder: of the saved job, which all processes can read.
        layout: "ddp" or "fsdp".
    """
    global _fits  # noqa: PLW0603  # counts the fits of this process, as the others count theirs
    _store().set(f"{_ANNOUNCED}{_fits}", json.dumps({"folder": str(folder), "layout": layout}))
    _fits += 1
    return _joined(layout)


def follow() -> None:
    """Train what the first process announces, until it ends; for all others.

    Raises:
        EnvironmentProblem: the first process has gone.
    """
    from torch.distributed import DistError

    from loopline.models.worker import train_job

    number = 0
    store = _store()
    while True:
        try:
            store.wait([f"{_ANNOUNCED}{number}"], _PATIENCE)
            told = store.get(f"{_ANNOUNCED}{number}").decode()
        except (DistError, RuntimeError) as problem:
            raise EnvironmentProblem(
                "The first process has gone, or gave nothing to train for a day; this one ends."
            ) from problem
        if told == _END:
            break
        job: dict[str, Any] = json.loads(told)
        train_job(Path(job["folder"]), _joined(job["layout"]))
        number += 1
    close()


def dismiss() -> None:
    """Tell the others that the line is over; for the first process, at its end."""
    _store().set(f"{_ANNOUNCED}{_fits}", _END)
    close()


def close() -> None:
    """Leave the other processes."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _store() -> Any:
    import torch.distributed as dist

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(host, port, is_master=False, timeout=timedelta(minutes=1))  # type: ignore[attr-defined]


def _joined(layout: str) -> Layout:
    from loopline.engine.layout import Layout

    return Layout.open("fsdp" if layout == "fsdp" else "ddp")
