"""Plots results/scaling.json: time and memory of the whole line against rows, on log axes.

python benchmarks/plot_scaling.py      (needs matplotlib, which comes with the catboost extra)
"""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Write results/scaling.svg."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "loopline"
    import matplotlib.pyplot as plt

    data = json.loads((RESULTS / "scaling.json").read_text(encoding="utf-8"))
    rows = [point["rows"] for point in data["points"]]
    figure, (time, memory) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    seconds = [point["processor_seconds"] for point in data["points"]]
    time.loglog(rows, seconds, "o-", label="processor seconds")
    time.loglog(rows, [point["seconds"] for point in data["points"]], "s--", label="seconds")
    ideal = [seconds[-1] * count / rows[-1] for count in rows]
    time.loglog(rows, ideal, ":", color="grey", label="linear in rows")
    time.set(xlabel="rows", ylabel="seconds", title="time of the whole line")
    time.legend()
    memory.loglog(rows, [p["peak_megabytes"] for p in data["points"]], "o-", label="peak")
    memory.loglog(rows, [p["table_megabytes"] for p in data["points"]], ":", label="the table")
    memory.set(xlabel="rows", ylabel="MB", title="memory")
    memory.legend()
    figure.savefig(RESULTS / "scaling.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
