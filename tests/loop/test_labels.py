"""Answered rows and their labels become rows of the line; what cannot be used is told."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from tests.loop.conftest import Shop, customers, told

from loopline.line.serving import open_service
from loopline.loop.labels import answered_rows


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
