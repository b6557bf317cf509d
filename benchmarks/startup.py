"""How fast the import, the help and a second run are, and how large a core install is.

    python benchmarks/startup.py            # writes benchmarks/results/startup.json
    python benchmarks/startup.py --install  # also makes a fresh environment and weighs it

Whole processes, the rivals in turns, medians. Goals: `import loopline` at most 1.5 times `import
polars`, `--help` within 0.5 s, a second run that finds everything done within 2 s, and a core
install (the package and what it needs, not pip and setuptools) within 600 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tables import Child, run_child, write_table

from line import SETTINGS

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "startup.json"
NOT_COUNTED = {"pip", "setuptools"}
SIZES = """
import json
from importlib.metadata import distributions
print(json.dumps({d.name: sum(f.locate().stat().st_size for f in d.files or () if f.suffix != ".pyc"
    and f.locate().is_file()) for d in distributions()}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--install", action="store_true", help="weigh a fresh core install")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = _times(Path(name), given.repeats)
        if given.install:
            results["core_install"] = _install(Path(name) / "environment")
        elif RESULTS.exists():
            earlier = json.loads(RESULTS.read_text(encoding="utf-8"))
            results |= {key: earlier[key] for key in ("core_install",) if key in earlier}
    results["setting"] = {
        "repeats": given.repeats,
        "cores": os.cpu_count(),
        "load_at_end": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "polars": version("polars"),
        "numpy": version("numpy"),
        "second run": "10,000 rows of 20 columns, LightGBM and baseline, 3 folds",
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


def _times(folder: Path, repeats: int) -> dict:
    write_table(folder / "table.parquet", 10_000, 20, 4)
    settings = SETTINGS.format(file="table.parquet", rounds=20, threads=1)
    (folder / "loopline.yaml").write_text(settings)
    line = [sys.executable, "-m", "loopline"]
    commands = {
        "import polars": [sys.executable, "-c", "import polars"],
        "import loopline": [sys.executable, "-c", "import loopline"],
        "loopline --help": [*line, "--help"],
        "second run": [*line, "run", "loopline.yaml", "--json"],
    }
    store = {"LOOPLINE_STORE": str(folder / "store")}
    for command in commands.values():
        run_child(command, folder, **store)
    runs: dict[str, list[Child]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            runs[name].append(run_child(command, folder, **store))

    def median(name: str, field: str) -> float:
        return statistics.median(getattr(child, field) for child in runs[name])

    return {
        field: {
            **{name: round(median(name, field), 3) for name in commands},
            "import loopline over import polars": round(
                median("import loopline", field) / median("import polars", field), 2
            ),
        }
        for field in ("seconds", "cpu_seconds")
    } | {"fastest_seconds": {n: round(min(c.seconds for c in cs), 3) for n, cs in runs.items()}}


def _install(folder: Path) -> dict:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    command = [python, "-m", "pip", "install", "--quiet", *constraints, str(ROOT)]
    subprocess.run(command, check=True)
    told = subprocess.run([python, "-c", SIZES], check=True, capture_output=True, text=True)
    sizes = {k: v for k, v in json.loads(told.stdout).items() if k not in NOT_COUNTED}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:10]
    return {
        "megabytes": round(sum(sizes.values()) / 1e6, 1),
        "packages": len(sizes),
        "ten_largest_megabytes": {name: round(size / 1e6, 1) for name, size in largest},
    }


if __name__ == "__main__":
    main()
