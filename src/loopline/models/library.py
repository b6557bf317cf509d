"""Whether a library that a family needs is installed."""

from __future__ import annotations

import importlib.util

from loopline.errors import EnvironmentProblem


def require_library(name: str) -> None:
    """Raise when the extra of that name is not installed.

    Raises:
        EnvironmentProblem: names the extra to install.
    """
    if importlib.util.find_spec(name) is None:
        raise EnvironmentProblem(
            f"The {name} family needs the package {name}, which is not installed; "
            f"run `pip install 'loopline[{name}]'`."
        )
