"""What made a release: the code's digest and the versions of all that could change a result."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from pathlib import Path

import loopline
from loopline.digest import bytes_digest, combined_digest

PACKAGES = (
    "catboost",
    "lightgbm",
    "numpy",
    "peft",
    "pillow",
    "polars",
    "safetensors",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
    "xgboost",
    "xgboost-cpu",
)


@cache
def environment() -> dict[str, str]:
    """Versions of Python, Loopline and the packages that compute, as an environment lock."""
    found = {"python": platform.python_version(), "loopline": loopline.__version__}
    found["machine"] = f"{platform.system()} {platform.machine()}"
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def code_digest() -> str:
    """Digest of Loopline's own source files, so that a changed line of code is seen."""
    folder = Path(loopline.__file__).parent
    return combined_digest(
        f"{path.relative_to(folder).as_posix()} {bytes_digest(path.read_bytes())}"
        for path in sorted(folder.rglob("*.py"))
    )
