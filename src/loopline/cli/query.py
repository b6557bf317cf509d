"""`loopline query`: images that fit words, or the words that fit an image best."""

from __future__ import annotations

from typing import Annotated

import typer

from loopline.cli.options import Json, LedgerUrl, Store, project


def query(
    release: Annotated[
        str,
        typer.Argument(
            help="A release's id (or the start of it), line name, alias, folder, or latest."
        ),
    ],
    images: Annotated[str, typer.Argument(help="A folder or ZIP file of images, or a table.")],
    text: Annotated[
        list[str],
        typer.Option("-t", "--text", help="What is looked for; several, to tell images apart."),
    ],
    num: Annotated[
        int, typer.Option("-n", "--num", min=1, help="How many images to show, best first.")
    ] = 10,
    as_json: Json = False,
    store: Store = None,
    ledger: LedgerUrl = None,
) -> None:
    """Find the images that fit a text best; with several texts, name each image by one of them."""
    from loopline.cli import show
    from loopline.line.project import find_release
    from loopline.line.query import find_images

    found = find_release(release, lambda: project(store, ledger))
    hits = find_images(found, images, text)
    if as_json:
        show.print_json({"release": found.id, "texts": text, "hits": [h.to_dict() for h in hits]})
        return
    for hit in hits[:num]:
        named = f"  {hit.text!r} ({hit.share:.2f})" if len(text) > 1 else ""
        show.say(f"{hit.closeness:.3f}  {hit.image}{named}")
    if len(hits) > num:
        show.say(f"… and {len(hits) - num:,} more")
