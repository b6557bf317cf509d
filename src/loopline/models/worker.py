"""One of several processes that train a network together; started by `NeuralFamily.fit`.

python -m loopline.models.worker FOLDER LAYOUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from loopline.models.base import FitContext
from loopline.models.families import family
from loopline.models.job import TRAINED, Job
from loopline.models.neural import NeuralFamily

if TYPE_CHECKING:
    from loopline.engine.layout import Kind, Layout


def train_job(folder: Path, layout: Layout) -> None:
    """Train this process's part of the job in a folder; the leading one writes what came out."""
    job = Job.read(folder)
    kind = cast("NeuralFamily", family(job.family))
    context = FitContext(seed=job.seed, threads=job.threads)
    trained = kind.train_here(job, kind.load_encoder(folder / "encoder"), folder, layout, context)
    if layout.leads:
        draft = folder / f".{TRAINED}"
        draft.write_text(json.dumps(trained), encoding="utf-8")
        draft.rename(folder / TRAINED)
    layout.barrier()


def main(folder: Path, layout: str) -> None:
    """Join the processes that were started together and train."""
    from loopline.engine.layout import Layout

    place = Layout.open(cast("Kind", layout))
    try:
        train_job(folder, place)
    finally:
        place.close()


if __name__ == "__main__":
    from loopline.engine.layout import leave

    main(Path(sys.argv[1]), sys.argv[2])
    leave()
