"""`loopline doctor`: whether this machine and this project are in order."""

from __future__ import annotations

from typing import Any

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project


def doctor(as_json: Json = False, store: Store = None, ledger: LedgerUrl = None) -> None:
    """Check machine, optional parts and project; exit code 5 when something is wrong."""
    import platform
    import shutil
    from importlib.util import find_spec

    import loopline
    from loopline.cli import show
    from loopline.cores import num_cores
    from loopline.errors import EnvironmentProblem, LooplineError, NotFoundError
    from loopline.models.pretrained import missing_for_text
    from loopline.release.environment import environment
    from loopline.words import counted, size

    checks: list[dict[str, Any]] = []

    def add(name: str, state: str, text: str) -> None:
        checks.append({"check": name, "state": state, "text": text})

    add("loopline", "ok", f"{loopline.__version__} on Python {platform.python_version()}")
    cores = num_cores()
    add("cores", "ok", f"{cores} usable; training uses them all unless `threads` says otherwise")
    free = shutil.disk_usage(".").free
    enough = free > 1_000_000_000
    add("disk", "ok" if enough else "warning", f"{size(free)} free in this folder")
    versions = environment()
    core = ("polars", "numpy", "scikit-learn", "lightgbm")
    add("core", "ok", ", ".join(f"{name} {versions[name]}" for name in core))
    for extra, module in (
        ("xgboost", "xgboost"),
        ("catboost", "catboost"),
        ("excel", "fastexcel"),
        ("pandas", "pandas"),
        ("postgres", "psycopg"),
        ("s3", "s3fs"),
    ):
        present = find_spec(module) is not None
        text = "installed" if present else f"not installed; it is the extra {extra!r}"
        add(extra, "ok" if present else "absent", text)
    neural = [name for name in ("torch", "transformers", "tokenizers", "peft") if name in versions]
    text = ", ".join(f"{name} {versions[name]}" for name in neural) or "not installed"
    text += "" if len(neural) == 4 else "; all of it is the extra 'neural'"
    add("neural", "ok" if len(neural) == 4 else "absent", text)
    wanted = missing_for_text()
    text = f"not ready; {wanted}" if wanted else "the default text encoder is installed"
    add("text", "absent" if wanted else "ok", text)
    try:
        with project(store, ledger) as opened:
            num_artifacts = len(opened.store.ids())
            num_runs = len(opened.runs())
            add(
                "project",
                "ok",
                f"{opened.store.address}: {counted(num_artifacts, 'artifact')}, "
                f"{counted(num_runs, 'run')}",
            )
    except NotFoundError:
        add("project", "absent", "no store here yet; `loopline run` makes one")
    except LooplineError as error:
        add("project", "error", str(error))
    bad = [check for check in checks if check["state"] == "error"]
    if as_json:
        show.print_json({"ok": not bad, "checks": checks})
    else:
        signs = {"ok": "✓", "warning": "!", "absent": "·", "error": "✗"}
        for check in checks:
            show.say(f"{signs[check['state']]} {check['check']:<10} {check['text']}")
    if bad:
        raise typer.Exit(EnvironmentProblem.exit_code)
