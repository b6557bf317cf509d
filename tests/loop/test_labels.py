"""Answered rows and their labels become rows of the line; what cannot be used is told."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import polars as pl
import pytest
from tests.loop.conftest import Shop, customers, told

from loopline.line.serving import open_service
from loopline.loop.labels import answered_rows
from loopline.serve.feedback import Feedback, Label
from loopline.serve.log import FILE, KIND, read_log
from loopline.serve.model import version_of


def post(url: str, data: Any) -> Any:
    request = urllib.request.Request(
        url, json.dumps(data).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def serve(shop: Shop, num_rows: int, *, labelled: int, again: int = 0, **settings: Any) -> None:
    """Rows over HTTP, and the labels of the first ones; some of these come twice, and change."""
    with shop.project() as project:
        release = project.release("shop@champion")
    rows = customers(num_rows, 5)
    truth = rows["bought"].to_list()
    store = shop.folder / ".loopline"
    with open_service(release, store=store, settings=settings) as service:
        answer = post(f"{service.url}/predict", rows.drop("bought").to_dicts())
        for count, change in ((labelled, False), (again, True)):
            labels = [
                {"id": answer["id"], "row": k, "label": "yes" if change else truth[k]}
                for k in range(count)
            ]
            if labels:
                post(f"{service.url}/feedback", labels)
        with pytest.raises(urllib.error.HTTPError):
            post(f"{service.url}/feedback", {"id": "nobody", "label": "yes"})


def test_labels_of_answers_are_new_rows(shop: Shop) -> None:
    """300 answers, 250 labels: the loop sees 300 new rows, 250 of them labelled."""
    serve(shop, 300, labelled=250)
    assert told(shop.look(), "looked")[0].startswith("300 new rows, 250 of them labelled.")
    assert shop.look() == []


def test_corrected_and_duplicate_labels_count_once(shop: Shop) -> None:
    """A label that comes again counts once; another one replaces it, and that is told."""
    serve(shop, 100, labelled=100, again=40)
    news = shop.look()
    assert "replaced an earlier one" in told(news, "waiting")[0]
    assert told(news, "looked")[0].startswith("100 new rows, 100 of them labelled.")


def test_labels_of_rows_that_were_not_logged_are_told(shop: Shop) -> None:
    """A log that keeps nothing of a request: its labels are counted and not used."""
    serve(shop, 50, labelled=50)
    serve(shop, 60, labelled=20, log={"enabled": False})
    with shop.project() as project:
        answered = answered_rows(project, project.release("shop@champion"))
    assert answered.rows.height == 50
    assert "20 labels are of requests that the log does not hold" in answered.remarks[0]


def test_a_log_that_leaves_columns_out_is_told(shop: Shop) -> None:
    """Without a column that the model needs no row can be trained on."""
    serve(shop, 50, labelled=50, log={"leave_out": ["x"]})
    with shop.project() as project:
        answered = answered_rows(project, project.release("shop@champion"))
    assert answered.rows.is_empty()
    assert "leaves out x" in answered.remarks[0]


def test_late_labels_count_when_they_come(shop: Shop) -> None:
    """Rows that were seen without labels become labelled rows a day and a restart later."""
    with shop.project() as project:
        release = project.release("shop@champion")
    rows = customers(120, 5)
    store = shop.folder / ".loopline"
    with open_service(release, store=store) as service:
        answer = post(f"{service.url}/predict", rows.drop("bought").to_dicts())
    assert told(shop.look(), "looked")[0].startswith("120 new rows, 0 of them labelled.")
    with open_service(release, store=store) as service:
        truth = enumerate(rows["bought"].to_list())
        labels = [{"id": answer["id"], "row": k, "label": label} for k, label in truth]
        post(f"{service.url}/feedback", labels)
    assert told(shop.look(), "looked")[0].startswith("120 new rows, 120 of them labelled.")


def test_two_remarks_are_told_once_each(shop: Shop) -> None:
    """Corrected labels and labels without a row at once: neither is told at every look."""
    serve(shop, 50, labelled=50, again=20)
    serve(shop, 60, labelled=20, log={"enabled": False})
    waiting = told(shop.look(), "waiting")
    assert sum("replaced" in text or "does not hold" in text for text in waiting) == 2
    assert shop.look() == []


def kept(shop: Shop, *labels: Label) -> None:
    """Labels in the service's folder."""
    feedback = Feedback(shop.folder / ".loopline" / "service")
    feedback.add(labels)
    feedback.close()


def test_labels_of_another_line_are_none_of_this_ones(shop: Shop) -> None:
    """A service that answers for several lines keeps all their labels in one folder: those of
    another line are not told as labels of unknown requests."""
    serve(shop, 50, labelled=50)
    kept(shop, Label("somewhere", 0, "0123456789ab", "yes"), Label("where", 1, "0123456789ab", 3.5))
    with shop.project() as project:
        answered = answered_rows(project, project.release("shop@champion"))
    assert answered.remarks == ()
    assert answered.rows["bought"].null_count() == 0


def test_a_label_that_is_nothing_is_told_and_not_used(shop: Shop) -> None:
    """A label of nothing (from before the service refused it) is counted, and no row has it."""
    serve(shop, 50, labelled=10)
    with shop.project() as project:
        release = project.release("shop@champion")
        log = read_log(project.store, name="shop")
        request = log["request_id"][0]
        kept(shop, Label(request, 20, version_of(release.id), None))  # type: ignore[arg-type]
        kept(shop, Label("gone", 0, version_of(release.id), None))  # type: ignore[arg-type]
        answered = answered_rows(project, release)
    assert answered.remarks == ("2 labels cannot be read as String; not used.",)
    assert answered.rows["bought"].drop_nulls().len() == 10


def test_a_row_that_stands_twice_in_the_log_counts_once(shop: Shop) -> None:
    """A log that was written again after a crash, and what a shadow answered beside it."""
    serve(shop, 40, labelled=40)
    with shop.project() as project:
        release = project.release("shop@champion")
        (known,) = project.store.ids(KIND)
        artifact = project.store.get(known)
        table = pl.read_parquet(artifact.path(FILE))
        strange = table.with_columns(role=pl.lit("shadow"), request_id=pl.lit("never answered"))
        for again in (table.reverse(), strange):
            project.store.put(
                KIND, lambda folder, part=again: part.write_parquet(folder / FILE),
                meta=artifact.meta,
            )  # fmt: skip
        answered = answered_rows(project, release)
    assert answered.rows.height == 40
    assert answered.rows["bought"].null_count() == 0
