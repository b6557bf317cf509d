"""`loopline sample`: text that a language model writes."""

from __future__ import annotations

from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project


def sample(
    release: Annotated[
        str,
        typer.Argument(
            help="A release's id (or the start of it), line name, alias, folder, or latest."
        ),
    ],
    prompt: Annotated[
        str, typer.Option("--prompt", help="The beginning of the text, or the instruction.")
    ] = "",
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="The most tokens to write.")] = 200,
    temperature: Annotated[
        float,
        typer.Option("--temperature", help="Below 1 prefers likely tokens; 0: the likeliest."),
    ] = 0.8,
    top_p: Annotated[
        float,
        typer.Option("--top-p", help="Draw from the likeliest tokens that together have so much."),
    ] = 0.95,
    seed: Annotated[int, typer.Option("--seed", help="Equal seeds give equal texts.")] = 0,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Let a release of a language model go on with a text, to the end or so many tokens."""
    from loopline.cli import show
    from loopline.data.language import BETWEEN, prompts_of
    from loopline.line.project import find_release

    found = find_release(release, lambda: project(store, ledger))
    pieces = found.model.write(prompt, most=tokens, temperature=temperature, top_p=top_p, seed=seed)
    if as_json:
        show.print_json({"release": found.id, "prompt": prompt, "text": "".join(pieces)})
        return
    if prompt:
        # an answer stands apart from its question, as it did in training
        typer.echo(prompt + BETWEEN * bool(prompts_of(found.schema)), nl=False)
    for piece in pieces:
        typer.echo(piece, nl=False)
    typer.echo("")
