"""`loopline parity`: do layouts of several processes compute what one process computes?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, cast

import typer

from loopline.cli.options import Json

if TYPE_CHECKING:
    from loopline.engine.tools.parity import Kind


def parity(
    processes: Annotated[
        int, typer.Option("--processes", min=2, help="Processes to start on this machine.")
    ] = 2,
    layouts: Annotated[
        str, typer.Option("--layouts", help="Layouts to compare, with commas: ddp, fsdp2.")
    ] = "ddp,fsdp2",
    precision: Annotated[
        str,
        typer.Option(
            "--precision", help="Number formats, with commas: fp32, tf32, bf16, fp16, bf16_pure."
        ),
    ] = "fp32,bf16",
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Largest relative error of loss and gradient that is let through (default: what "
            "rounding makes, 1e-6 in fp32, 0.02 in bf16).",
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps to compare.")] = 3,
    as_json: Json = False,
) -> None:
    """Train a small built-in model in each layout and alone, and compare; exit code 4 if apart.

    Shown are the largest relative errors of a step's loss and gradient against one process. It runs
    on GPUs where there is one for each process, and on the CPU elsewhere. Needs the extra `neural`.
    """
    from importlib.util import find_spec

    from loopline.cli import show
    from loopline.errors import EnvironmentProblem, IntegrityError

    if find_spec("torch") is None:
        raise EnvironmentProblem(
            "`loopline parity` needs torch: install it with `pip install 'loopline[neural]'`."
        )
    from loopline.engine.tools.parity import check_parity, table

    kinds = [name.strip().lower() for name in layouts.split(",")]
    found = check_parity(
        processes,
        kinds=cast("list[Kind]", ["fsdp" if name == "fsdp2" else name for name in kinds]),
        precisions=[name.strip().lower() for name in precision.split(",")],
        threshold=threshold,
        steps=steps,
    )
    wrong = [line for line in found if not line.holds]
    if as_json:
        lines = [{**asdict(line), "holds": line.holds} for line in found]
        show.print_json({"holds": not wrong, "layouts": lines})
        raise typer.Exit(IntegrityError.exit_code if wrong else 0)
    show.say(table(found))
    if wrong:
        names = ", ".join(f"{line.layout} in {line.precision}" for line in wrong)
        raise IntegrityError(
            f"{names}: further from one process than the threshold. Do not train with it here; "
            "see whether other versions of torch or of the driver agree."
        )
