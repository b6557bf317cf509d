"""Python in a process of its own, to prove what a folder answers where nothing else is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from loopline.errors import IntegrityError


def said_by(module: str, arguments: Sequence[str], data: bytes, problem: str) -> bytes:
    """What a module says of some bytes, in a fresh process with one thread.

    Args:
        module: run as ``python -m module``.
        arguments: its arguments.
        data: its input.
        problem: how the error begins, such as "The model cannot answer".

    Raises:
        IntegrityError: it failed; the message ends with the last line that it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        input=data,
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # single rows: threads would only wait
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise IntegrityError(
            f"{problem}: {said[-1] if said else f'it ended with {done.returncode}'}"
        )
    return done.stdout
