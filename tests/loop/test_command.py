"""`loopline watch` as a person and as a script meet it."""

from __future__ import annotations

import json
import signal

import pytest
from tests.cli.conftest import Call, call
from tests.loop.conftest import Shop, customers
from tests.loop.test_kill import start
from tests.loop.test_labels import post

from loopline.line.report import write_report

__all__ = ["call"]


@pytest.fixture(autouse=True)
def _here(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop.folder)


def test_one_look_tells_what_came(shop: Shop, call: Call) -> None:
    """`--once` prints the diary's new entries; without any it names who serves."""
    shop.put("b.csv", customers(120, 1))
    first = call("watch", "--once")
    assert first.code == 0, first.message
    assert "data/b.csv came with 120 rows." in first.out
    assert "Nothing new. release-" in call("watch", "--once").out


def test_a_script_gets_one_object(shop: Shop, call: Call) -> None:
    """`--once --json`: the champion and the news, each with its sentence and facts."""
    shop.put("b.csv", customers(120, 1))
    answer = call("watch", "--once", "--json").json
    assert answer["champion"] == shop.champion()
    assert [entry["what"] for entry in answer["news"]] == ["arrived", "looked"]
    assert answer["news"][1]["data"]["rows"] == 120


def test_the_history_reads_as_sentences(shop: Shop, call: Call) -> None:
    """`--history` tells everything with its time, `--json` the same as data."""
    shop.put("b.csv", customers(120, 1))
    call("watch", "--once")
    told = call("watch", "--history").out
    assert "made release-" in told
    assert "120 new rows, 120 of them labelled." in told
    data = call("watch", "--history", "--json").json
    assert [entry["what"] for entry in data] == ["alias", "arrived", "arrived", "looked"]


def test_a_person_confirms_with_a_reason(shop: Shop, call: Call) -> None:
    """`--confirm` writes who believes what; without a reason it is refused."""
    assert "confirmed the change: new prices" in call("watch", "--confirm", "new prices").out
    call("watch", "--confirm", " ").refuses(2, "needs a reason")
    call("watch", "--accept", "data/x.csv").refuses(2, "No file 'data/x.csv' is held")


def test_wrong_settings_are_refused(shop: Shop, call: Call) -> None:
    """A setting of the loop that is none: exit code 2 with the nearest name."""
    call("watch", "--once", "--set", "loop.evry=7d").refuses(2, "`evry`", "Did you mean `every`")


def test_the_report_tells_the_timeline(shop: Shop, call: Call) -> None:
    """The HTML report has a section on what the loop did."""
    shop.put("b.csv", customers(120, 1))
    call("watch", "--once")
    with shop.project() as project:
        text = write_report(project, project.run("latest").id).read_text(encoding="utf-8")
    assert "What the loop did" in text
    assert "120 new rows, 120 of them labelled." in text


def test_one_command_serves_and_watches(shop: Shop) -> None:
    """`--serve` answers while it watches; a file that comes is told; SIGTERM ends both."""
    child = start(shop.folder, "--serve", "--port", "0", "--json", "--set", "loop.poll=0.2")
    assert child.stdout is not None
    url = json.loads(child.stdout.readline())["url"]
    answer = post(f"{url}/predict", {"x": 2.0, "z": -1.0, "city": "Bonn"})
    assert answer["prediction"] == "yes"
    shop.put("b.csv", customers(120, 1))
    assert json.loads(child.stdout.readline())["what"] == "arrived"
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err


def test_serving_for_one_look_is_refused(call: Call) -> None:
    """`--once --serve` would end at once: refused."""
    call("watch", "--once", "--serve").refuses(2, "no effect with `--once`")
