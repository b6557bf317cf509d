"""Quantities as people write them, and what is no quantity."""

from __future__ import annotations

import pytest

from loopline.errors import SettingsError
from loopline.line.quantities import (
    read_bytes,
    read_duration,
    read_energy,
    read_floor,
    read_rate,
)
from loopline.line.spec import make_spec


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (read_duration, "500us", 0.0005),
        (read_duration, "5 ms", 0.005),
        (read_duration, "90", 90.0),
        (read_duration, "1.5h", 5400.0),
        (read_duration, "1h30m", 5400.0),
        (read_bytes, "150 MB", 150e6),
        (read_bytes, "2GiB", 2**31),
        (read_rate, "2,000/s", 2000.0),
        (read_rate, "60/min", 1.0),
        (read_energy, "1 kJ", 1000.0),
        (read_floor, ">=0.9", 0.9),
        (read_floor, "90 %", 0.9),
    ],
)
def test_units_are_read(read, text, value):
    """Each unit has its factor; grouping commas and blanks do not matter."""
    assert read(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_duration, "5 parsecs"),
        (read_duration, "fast"),
        (read_duration, "-3s"),
        (read_bytes, "10 ms"),
        (read_rate, "/s"),
        (read_floor, ">= high"),
    ],
)
def test_other_words_are_no_quantity(read, text):
    """The message has what came and an example of what would do."""
    with pytest.raises(ValueError, match="must be a"):
        read(text)


def problems(**settings):
    with pytest.raises(SettingsError) as told:
        make_spec({"data": {"source": "a.csv"}, "target": "y", **settings})
    return str(told.value)


def test_a_wrong_limit_names_its_key():
    """`constraints.latency_p99: soon` is refused with the key and an example."""
    text = problems(constraints={"latency_p99": "soon"})
    assert "constraints.latency_p99" in text
    assert "such as 5ms" in text


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"constraints": {"latency_p50": "6ms", "latency_p99": "5ms"}},
            "`constraints.latency_p50` of 6 ms has no effect",
        ),
        (
            {"constraints": {"memory": "10MB", "size": "20MB"}},
            "`constraints.size` has no effect",
        ),
        (
            {"select": "best", "objective": {"margin": 0.1}},
            "`objective.margin` has no effect with `select: best`",
        ),
        ({"objective": {"require": {"recall": 1}}}, "objective.require.recall"),
    ],
)
def test_contradictory_limits_are_told(settings, told):
    """A limit that can never decide is an error, as is a floor that no model can promise."""
    assert told in problems(**settings)


def test_quantities_become_numbers_in_the_settings():
    """Settings hold seconds, bytes, rows a second and shares, whatever the spelling."""
    spec = make_spec(
        {
            "data": {"source": "a.csv"},
            "target": "y",
            "constraints": {"latency_p99": "5ms", "memory": "300MB", "throughput": "1000/s"},
            "objective": {"require": {"recall": ">= 0.90", "precision": "80%"}},
        }
    )
    assert spec.constraints.limits().given == {
        "latency_p99": 0.005,
        "memory": 3e8,
        "throughput": 1000.0,
    }
    assert spec.objective.require.recall == 0.9
    assert spec.objective.require.precision == 0.8
