"""The commands, one file each, registered here; heavy imports happen inside them."""

from __future__ import annotations

from typing import Annotated

import typer

from loopline.cli import (
    advise,
    audit,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    export,
    gc,
    init,
    lineage,
    monitor,
    parity,
    predict,
    promote,
    query,
    releases,
    report,
    reproduce,
    rollback,
    run,
    runs,
    sample,
    schema,
    search,
    serve,
    train,
    verify,
    watch,
)

app = typer.Typer(
    name="loopline",
    help="From raw data to a trained, evaluated, traceable model whose score you can believe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 unexpected error, 2 wrong input or settings, 3 refused because "
    "the score could not be believed, 4 damaged or disproved, 5 the machine lacks something, "
    "130 interrupted.",
)


def _version(show: bool) -> None:
    if show:
        import loopline

        typer.echo(f"loopline {loopline.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    del version


app.command("init")(init.init)
app.command("run")(run.run)
app.command("search")(search.search)
app.command("train")(train.train)
app.command("audit")(audit.audit)
app.command("predict")(predict.predict)
app.command("query")(query.query)
app.command("sample")(sample.sample)
app.command("serve")(serve.serve)
app.command("monitor")(monitor.monitor)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("runs")(runs.runs)
app.command("advise")(advise.advise)
app.command("compare")(compare.compare)
app.command("releases")(releases.releases)
app.command("promote")(promote.promote)
app.command("rollback")(rollback.rollback)
app.command("watch")(watch.watch)
app.command("export")(export.export)
app.command("lineage")(lineage.lineage)
app.command("verify")(verify.verify)
app.command("reproduce")(reproduce.reproduce)
app.command("parity")(parity.parity)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.command("gc")(gc.gc)
app.command("schema")(schema.schema)
app.add_typer(data.app, name="data")
