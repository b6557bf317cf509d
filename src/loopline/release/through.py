"""A running service as a way to answer kept rows, so that what is promoted is what is deployed."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from loopline.errors import InputError, IntegrityError
from loopline.release.bundle import Release
from loopline.release.exports.rows import plain_row
from loopline.release.fresh import of_rows
from loopline.release.replay import Answer, Answers

WAY = "over HTTP"
BATCH_ROWS = 200
TIMEOUT_SECONDS = 60.0


def over_http(release: Release, url: str, *, token: str | None = None) -> Answer:
    """What asks a service for rows.

    Args:
        release: the release that the service shall answer for.
        url: the service's address up to its model, such as ``http://127.0.0.1:8000/predict``.
        token: what the service wants as a bearer token, None for none.

    Raises:
        InputError: no HTTP address; and when it is asked: the service does not answer.
        IntegrityError: when it is asked: an answer that is none.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(
            f"A service has an address such as http://127.0.0.1:8000/predict, got {url!r}."
        )

    def answer(frame: pl.DataFrame) -> Mapping[str, Answers]:
        rows = [plain_row(row) for row in frame.iter_rows(named=True)]
        found: list[Mapping[str, Any]] = []
        for start in range(0, len(rows), BATCH_ROWS):
            found += _asked(url, rows[start : start + BATCH_ROWS], token)
        try:
            return {WAY: of_rows(release, found)}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(
                f"{url} does not answer as {release.id[:20]} does: {found[0]!r} has another form "
                f"({type(error).__name__}: {error})."
            ) from error

    return answer


def _asked(
    url: str, rows: Sequence[Mapping[str, Any]], token: str | None
) -> list[Mapping[str, Any]]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(rows).encode(), headers)  # noqa: S310 - http only, see above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:  # noqa: S310
            told = json.loads(reply.read())
    except urllib.error.HTTPError as error:
        said = error.read(500).decode(errors="replace").strip()
        raise InputError(f"{url} refused the kept rows with {error.code}: {said}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{url} does not answer: {error}. Is the service running?") from error
    answers = told.get("predictions") if isinstance(told, dict) else told
    if not isinstance(answers, list) or len(answers) != len(rows):
        raise IntegrityError(f"{url} gave no list of {len(rows)} predictions.")
    return answers
