"""`loopline init --task retrieval`: a settings file for images that are found by words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loopline.data.retrieval import caption_of, image_of, retrieval_schema, with_numbers
from loopline.data.sources import Table
from loopline.evaluate.metrics import default_metric
from loopline.line.pair import read_pair
from loopline.line.proposal import Proposal, data_lines, named_columns, scalar
from loopline.line.suited import suited
from loopline.progress import Reporter
from loopline.words import counted, sentence


def propose_pairs(
    data: str,
    target: str,
    *,
    test: str | None,
    file: Path,
    reporter: Reporter,
    columns: Sequence[str] | None = None,
) -> Proposal:
    """Read the pairs and write down which column holds images and which captions.

    Args:
        data: path, glob or URL; a folder with a subfolder a caption has the target `label`.
        target: the column of captions.
        test: an official test file.
        file: where the settings file will stand; paths in it are relative to it.
        reporter: hears of progress.
        columns: names for files without a header row.

    Raises:
        DataError: captions are missing, or there is not one column of images.
    """
    with reporter.step("read the pairs"):
        table, _ = read_pair(data, test, columns)
        frame = with_numbers(table.frame, target)
    schema = retrieval_schema(frame, target, {})
    captions = frame[target].n_unique()
    sentences = [
        f"{counted(frame.height, 'pair')} of {image_of(schema)!r} and {target!r}, with "
        f"{counted(captions, 'different caption')}.",
        *map(sentence, table.facts.notes),
    ]
    candidates, why = suited(schema)
    lines = [
        "# A Loopline line for pairs: images are found by the words of their captions.",
        "# All settings: docs/settings.md, or `loopline schema`.",
        "version: 1",
        *data_lines(data, test, file, "pairs", _form(table, columns)),
        f"target: {scalar(caption_of(schema))}",
        "task: retrieval",
        "",
        f"models: [{', '.join(each.name for each in candidates)}]  # {why}",
        "objective:",
        f"  metric: {default_metric('retrieval').name}  # ranks the candidates",
        "seed: 0",
    ]
    return Proposal("\n".join(lines) + "\n", tuple(sentences), schema)


def _form(table: Table, names: Sequence[str] | None) -> list[str]:
    """Lines of `data.format`; a folder of pictures needs none."""
    if table.facts.kind == "folder":
        return []
    images = table.format.images
    return [*named_columns(names), *([f"    images: {scalar(list(images))}"] if images else [])]
