"""One of several processes that train a network together; started by `NeuralFamily.fit`.

python -m loopline.models.worker FOLDER LAYOUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import cast

from loopline.models.base import FitContext
from loopline.models.families import family
from loopline.models.job import Job
from loopline.models.neural import NeuralFamily
from loopline.progress import SilentReporter


def main(folder: Path, layout: str) -> None:
    """Train this process's part of the job in a folder; the leading one writes what came out."""
    from loopline.engine.layout import Kind, Layout

    job = Job.read(folder)
    kind = cast("NeuralFamily", family(job.family))
    place = Layout.open(cast("Kind", layout))
    try:
        context = FitContext(seed=job.seed, threads=job.threads, reporter=SilentReporter())
        trained = kind.train_here(
            job, kind.load_encoder(folder / "encoder"), folder, place, context
        )
        if place.leads:
            (folder / "trained.json").write_text(json.dumps(trained), encoding="utf-8")
        place.barrier()
    finally:
        place.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
