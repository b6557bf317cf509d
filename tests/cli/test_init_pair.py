"""`loopline init` on a headerless pair of files whose test file is written differently."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import Call
from tests.line.conftest import make_table


def write_pair(folder: Path) -> None:
    """A source and a test file as archives have them: no header, a remark, dots behind labels."""
    make_table(150).write_csv(folder / "d.data", include_header=False)
    body = make_table(60, seed=9).write_csv(include_header=False)
    text = body.replace(",yes\n", ",yes.\n").replace(",no\n", ",no.\n")
    (folder / "d.test").write_text(f"|a remark\n{text}")


@pytest.mark.parametrize("from_file", [False, True])
def test_a_pair_works_by_init_alone(call: Call, here: Path, from_file: bool) -> None:
    """Names by option or file, the remark and the dots: the settings that init writes run."""
    write_pair(here)
    names = "x,income,city,bought"
    if from_file:
        (here / "names.txt").write_text(names.replace(",", "\n") + "\n")
        names = "names.txt"
    told = call("init", "d.data", "--test", "d.test", "--target", "bought", "--columns", names)
    assert told.code == 0, told.message
    assert "Test file: 1 line before the table passed over." in told.out
    assert "The test file spells the labels of 'bought' differently: 'no.' is 'no'" in told.out
    data = yaml.safe_load((here / "loopline.yaml").read_text())
    assert data["data"]["format"] == {
        "header": False,
        "columns": ["x", "income", "city", "bought"],
    }
    assert data["columns"]["bought"] == {"map": {"no.": "no", "yes.": "yes"}}
    run = call("run", "--set", "models=[baseline, linear]", "--json")
    assert run.code == 0, run.message
    assert run.json["num_test_rows"] == 60


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("x,income,city", "4 columns, 3 names are given"),
        ("x,,city,bought", "number 2 is empty"),
        ("x,x,city,bought", "names 'x' twice"),
    ],
)
def test_wrong_names_are_refused(call: Call, here: Path, names: str, said: str) -> None:
    """Too few, empty and repeated names each get their sentence."""
    write_pair(here)
    told = call("init", "d.data", "--target", "bought", "--columns", names)
    told.refuses(2, said)
    assert not (here / "loopline.yaml").exists()
