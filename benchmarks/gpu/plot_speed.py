"""Plots the races on GPUs (results/) for docs/speed.md: speeds beside peers, and memory.

python benchmarks/gpu/plot_speed.py      (needs matplotlib, which comes with the catboost extra)
"""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[2] / "docs" / "speed.svg"
NAMES = {
    "engine": "Loopline", "engine_card": "Loopline", "packed_eager": "Loopline",
    "bare": "loop by hand", "trainer": "Trainer, compiled", "trainer_best": "Trainer, tuned",
    "lightning": "Lightning, compiled", "trainer_default": "Trainer, defaults",
}  # fmt: skip
OURS = "#2b6cb0"


def cases(name: str) -> list[dict]:
    """The cases of a results file that did not fail."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    return [case for case in found if "failed" not in case]


def bars(axis, title: str, unit: str, values: dict[str, float]) -> None:
    """One race."""
    from matplotlib.ticker import MaxNLocator

    names = list(values)
    colours = [OURS if name.startswith("Loopline") else "#a0aec0" for name in names]
    axis.barh(names[::-1], [values[name] for name in names[::-1]], color=colours[::-1])
    axis.set(title=title, xlabel=unit)
    axis.bar_label(axis.containers[0], fmt="{:,.0f}", padding=3, fontsize=8)
    axis.margins(x=0.3)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.xaxis.set_major_formatter("{x:,.0f}")


def main() -> None:
    """Write docs/speed.svg."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "loopline"
    import matplotlib.pyplot as plt

    runs = json.loads((RESULTS / "lm_peers_one_h200.json").read_text(encoding="utf-8"))["runs"]
    lm = {case["case"]: case for run in runs for case in run["cases"]}
    figure, axes = plt.subplots(2, 3, figsize=(13, 5.4), layout="constrained")
    for axis, group, title in (
        (axes[0, 0], "gpt2", "GPT-2 124M, BF16, H200"),
        (axes[0, 1], "llama", "Llama 1B shape, BF16, H200"),
    ):
        found = {
            NAMES[name]: lm[f"{group} {name}"]["tokens_per_second"]
            for name in ("engine", "lightning", "trainer_best", "trainer")
            if f"{group} {name}" in lm
        }
        bars(axis, title, "tokens/s", found)
    memory = {
        f"{NAMES[name]}, {group}": lm[f"{group} {name}"]["memory"]["peak"] / 1e9
        for group in ("gpt2", "llama")
        for name in ("engine", "trainer_best")
    }
    bars(axes[0, 2], "peak memory of the same runs", "GB", memory)
    texts = [case for case in cases("text_one_h200") if case.get("batch") in (8, 128)]
    wanted = ("packed_eager", "trainer_best", "trainer_default")
    speeds = {
        NAMES[name]: next(c["examples_per_second"] for c in texts if c["case"] == name)
        for name in wanted
    }
    bars(axes[1, 0], "BERT-base on short texts, H200", "texts/s, all included", speeds)
    images = {case["case"]: case["images_per_second"] for case in cases("images_one_h200")}
    for axis, group, title in (
        (axes[1, 1], "vit", "ViT-B/16, H200"),
        (axes[1, 2], "resnet", "ResNet-50, H200"),
    ):
        found = {NAMES[name]: images[f"{group} {name}"] for name in ("engine_card", "bare")}
        bars(axis, title, "images/s", found)
    figure.savefig(PAGE, metadata={"Date": None})


if __name__ == "__main__":
    main()
