"""The entry point of the `loopline` command; it imports nothing before it can be interrupted.

Reading the commands takes a few tenths of a second. Ctrl-C in that time shall say the same sentence
as later, so even the imports stand inside the guard.
"""

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    # Threads of OpenMP that spin while they wait make fits several times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        from loopline.cli.app import app
        from loopline.cli.edge import guarded
    except KeyboardInterrupt:
        sys.stderr.write("error: Interrupted; run the same command to go on.\n")
        sys.exit(130)
    sys.exit(guarded(app, sys.argv[1:]))
