"""A process that runs trials of a search, one after another; started by `search_pool.Workers`.

python -m loopline.line.search_worker

Its first line of input is the line (`opened` says what it holds), each further one a job; it
answers each job with one line, the record. It ends at once when its input does, so that no worker
outlives the process that started it, whatever ended that.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from loopline.data.schema import Schema
from loopline.errors import EnvironmentProblem, IntegrityError
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.prepare import Plan
from loopline.line.project import open_project
from loopline.line.spec import make_spec
from loopline.line.trial import Job, run_trial
from loopline.progress import SilentReporter

_GONE = 3


def line_facts(context: LineContext, prepared: Prepared, threads: int) -> dict[str, Any]:
    """What a worker needs to open the line, as plain data.

    Args:
        context: the line.
        prepared: its rows.
        threads: of each fit.
    """
    return {
        "spec": context.spec.model_dump(mode="json", exclude_unset=True),
        "folder": str(context.folder.absolute()),
        "store": context.spec.store if "://" in context.spec.store else context.store.address,
        "ledger": context.spec.ledger,
        "run": context.run,
        "plan": prepared.plan.artifact.id,
        "split": prepared.split_artifact.id,
        "schema": prepared.schema.to_dict(),
        "left_out": list(prepared.left_out),
        "threads": threads,
    }


def opened(facts: Mapping[str, Any]) -> tuple[LineContext, Prepared]:
    """The line as the process that started this one has it."""
    project = open_project(facts["store"], ledger=facts["ledger"])
    context = LineContext(
        make_spec(facts["spec"]),
        Path(facts["folder"]),
        project.store,
        project.ledger,
        SilentReporter(),
        run=facts["run"],
    )
    plan = Plan(project.store.get(facts["plan"]))
    schema = Schema.from_dict(facts["schema"])
    prepared = Prepared(context, plan, schema, project.store.get(facts["split"]))
    prepared.left_out = tuple(facts["left_out"])
    return context, prepared


def main(lines: IO[bytes], answers: IO[bytes]) -> None:
    """Answer jobs until the input ends."""
    told: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        for line in lines:
            told.put(line)
        os._exit(_GONE)  # whoever asked has gone: nobody waits for what is running

    threading.Thread(target=listen, name="listen", daemon=True).start()
    context, prepared = opened(json.loads(told.get()))
    while True:
        job = Job.from_dict(json.loads(told.get()))
        try:
            answer = run_trial(context, prepared, job).to_dict()
        except (EnvironmentProblem, IntegrityError) as error:
            answer = {"problem": str(error)}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not stand among the answers
    main(sys.stdin.buffer, private)
