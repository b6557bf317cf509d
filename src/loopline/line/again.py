"""The command that runs a finished run's line again, with one thing changed.

A line may have been started with `--set` on top of its file, so what the file does not say now is
said again. A line that was started from Python is told as the call.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from loopline.errors import LooplineError
from loopline.line.differences import changes
from loopline.line.files import DEFAULT_FILE, read_line
from loopline.line.finished import FinishedRun
from loopline.line.spec import make_spec

IN_MEMORY = "memory"


def again(run: FinishedRun, overrides: Mapping[str, Any]) -> str:
    """The command for a run's line with other settings.

    Args:
        run: the finished run.
        overrides: dotted keys with their new values.
    """
    if run.given["data"]["source"] == IN_MEMORY or not (run.context.folder / DEFAULT_FILE).exists():
        return _call(run, overrides)
    parts = ["loopline", "run", str(run.context.folder)]
    for key, value in {**_unsaid(run, overrides), **overrides}.items():
        parts += ["--set", f"{key}={_yaml(value)}"]
    return shlex.join(parts)


def _unsaid(run: FinishedRun, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What the run was started with and its settings file does not say."""
    try:
        line = read_line(run.context.folder)
    except LooplineError:  # an unset variable, a file that has changed: only a person knows
        return {}
    now, then = (
        spec.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        for spec in (line.spec, make_spec(run.given))
    )
    return {
        key: _short(key, value)
        for key, _, value in changes(now, then)
        if value is not None
        and not any(given == key or given.startswith(f"{key}.") for given in overrides)
    }


def _short(key: str, value: Any) -> Any:
    """Candidates as people write them."""
    if key != "models":
        return value
    return [entry if entry["name"] != entry["family"] else _entry(entry) for entry in value]


def _entry(entry: Mapping[str, Any]) -> Any:
    return {entry["name"]: entry["params"]} if entry.get("params") else entry["name"]


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _call(run: FinishedRun, overrides: Mapping[str, Any]) -> str:
    source = run.given["data"]["source"]
    table = "table" if source == IN_MEMORY else repr(source)
    settings = _nested(overrides)
    models = settings.pop("models", None)
    parts = [table, f"target={run.given['target']!r}"]
    if models is not None:
        parts.append(f"models={models!r}")
    if settings:
        parts.append(f"settings={settings!r}")
    return f"loopline.fit({', '.join(parts)}, …)"


def _nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings.

    >>> _nested({"columns.x.role": "ignore", "seed": 1})
    {'columns': {'x': {'role': 'ignore'}}, 'seed': 1}
    """
    found: dict[str, Any] = {}
    for key, value in overrides.items():
        *parents, last = key.split(".")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return found
