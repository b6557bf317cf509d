"""Loopline: from raw data to a trained, evaluated, traceable model whose score you can believe.

    import loopline

    result = loopline.fit("customers.csv", target="churned")
    result.leaderboard()
    result.predict("new_customers.csv")

Importing the package loads nothing heavy: each public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopline.errors import (
        DataError,
        EnvironmentProblem,
        HonestyError,
        InputError,
        IntegrityError,
        LeakError,
        LooplineError,
        NotFoundError,
        SettingsError,
        SplitError,
    )
    from loopline.line.auditing import Audit, audit_table
    from loopline.line.compare import RunComparison, compare
    from loopline.line.face import Result, fit, run
    from loopline.line.monitoring import MonitorReport, check_rows, check_stream, check_tables
    from loopline.line.project import Project, open_project
    from loopline.line.serving import open_service
    from loopline.line.spec import Spec
    from loopline.release.bundle import Release, load_release

__version__ = "0.1.0"

_HOMES = {
    "Audit": "loopline.line.auditing",
    "audit_table": "loopline.line.auditing",
    "RunComparison": "loopline.line.compare",
    "compare": "loopline.line.compare",
    "MonitorReport": "loopline.line.monitoring",
    "check_rows": "loopline.line.monitoring",
    "check_stream": "loopline.line.monitoring",
    "check_tables": "loopline.line.monitoring",
    "fit": "loopline.line.face",
    "run": "loopline.line.face",
    "Result": "loopline.line.face",
    "Project": "loopline.line.project",
    "open_service": "loopline.line.serving",
    "open_project": "loopline.line.project",
    "Spec": "loopline.line.spec",
    "Release": "loopline.release.bundle",
    "load_release": "loopline.release.bundle",
    "LooplineError": "loopline.errors",
    "InputError": "loopline.errors",
    "DataError": "loopline.errors",
    "SettingsError": "loopline.errors",
    "NotFoundError": "loopline.errors",
    "HonestyError": "loopline.errors",
    "LeakError": "loopline.errors",
    "SplitError": "loopline.errors",
    "IntegrityError": "loopline.errors",
    "EnvironmentProblem": "loopline.errors",
}

__all__ = [
    "Audit",
    "DataError",
    "EnvironmentProblem",
    "HonestyError",
    "InputError",
    "IntegrityError",
    "LeakError",
    "LooplineError",
    "MonitorReport",
    "NotFoundError",
    "Project",
    "Release",
    "Result",
    "RunComparison",
    "SettingsError",
    "Spec",
    "SplitError",
    "__version__",
    "audit_table",
    "check_rows",
    "check_stream",
    "check_tables",
    "compare",
    "fit",
    "load_release",
    "open_project",
    "open_service",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'loopline' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return __all__
