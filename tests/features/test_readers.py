"""Reading single values without tables gives the bits that tables give."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopline.data.schema import Column, Schema
from loopline.features.contract import InputContract
from loopline.features.terms import normalised_text
from loopline.features.texts import normalised


def test_every_letter_is_normalised_as_in_a_table() -> None:
    """All 1.1 million code points, alone and between letters: the same words, or left to others."""
    letters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = [f"a{letter}B {letter}" for letter in letters]
    different = [
        (hex(ord(letter)), one, many)
        for letter, one, many in zip(
            letters, map(normalised_text, texts), normalised(pl.Series(texts)), strict=True
        )
        if one is not None and one != many
    ]
    assert different == []


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ΑΣσς İıẞßǅ'\u0301\u00ad\u200b.-a A1²Ⅷ\u0345ʰ\u2019"), max_size=12))
@example("ΟΔΟΣ. ΟΔΟΣ")
@example("\ud800")
def test_letters_that_look_around_are_normalised_as_in_a_table(text: str) -> None:
    """A final sigma depends on its neighbours, a dotted capital becomes two letters."""
    one = normalised_text(text)
    if one is not None:
        assert one == normalised(pl.Series([text]))[0]


def test_a_whole_number_is_one_however_it_is_written() -> None:
    """3.0 in a column of whole numbers becomes 3 in a row as in a table; 2**53 stays as it came."""
    schema = Schema((Column("n", "number"),), "regression")
    contract = InputContract.learn(pl.DataFrame({"n": [1, 2]}), schema)
    for value in (3.0, -4.0, 0.0, 2.5, 3, 2.0**53):
        alone = contract.check_row({"n": value})["n"]
        (table,) = contract.check(pl.DataFrame({"n": [value]}))[0]["n"].to_list()
        assert (type(alone), alone) == (type(table), table), value


@pytest.mark.parametrize("module", ["readers", "calendar", "terms"])
def test_readers_need_numpy_alone(module: str) -> None:
    """What `loopline.runtime` builds on imports neither polars nor any other package."""
    code = (
        f"import sys, loopline.features.{module}; "
        "print(*{name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if not name.startswith("_")}
    assert loaded <= {"loopline", "numpy", "sitecustomize"}
