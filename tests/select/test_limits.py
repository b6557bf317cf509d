"""Limits: what breaks one, what a broken one does to the choice, and how it is told."""

from __future__ import annotations

import numpy as np
import pytest
from tests.select.test_choose import candidate, race

from loopline.errors import LimitError
from loopline.select.choose import choose
from loopline.select.limits import Limits, Measured, measured_table, speed_sentence

FAST = Measured(0.001, 0.002, 0.004, 1e4, 10**8, 10**6, 2.0)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"latency_p50": 0.0009}, "latency_p50 is above 900 µs"),
        ({"latency_p99": 0.003}, "latency_p99 is above 3 ms"),
        ({"throughput": 20_000}, "throughput is below 20,000 rows/s"),
        ({"memory": 9e7}, "memory is above 90.0 MB"),
        ({"size": 9e5}, "size is above 900.0 kB"),
        ({"train_time": 1.0}, "train_time is above 1 s"),
        ({"energy": 5.0}, "energy cannot be measured on this machine"),
    ],
)
def test_each_limit_is_held_against_its_measurement(limits, told):
    """One limit a case; the sentence has the limit, not what was measured, which differs by run."""
    assert Limits(**limits).broken(FAST) == (told,)


def test_a_value_at_its_limit_is_allowed():
    """At most means at most: equal values break nothing."""
    limits = Limits(0.001, 0.004, 1e4, 10**8, 10**6, 2.0)
    assert limits.broken(FAST) == ()


def test_a_better_candidate_that_breaks_a_limit_is_set_aside_and_told():
    """The best scorer breaks a limit: the next is chosen, and the sentence says what it lost to."""
    y, candidates = race(np.random.default_rng(0), 2000, edge=0.8)
    found = choose(candidates, y, "rmse", broken={"trees": ["latency_p99 is above 5 ms"]})
    assert (found.chosen, found.best) == ("linear", "linear")
    assert "trees scored 1.0" in found.sentence
    assert "and was set aside: latency_p99 is above 5 ms." in found.sentence
    line = next(line for line in found.comparisons if line.name == "trees")
    assert line.broken == ("latency_p99 is above 5 ms",)


@pytest.mark.parametrize(("edge", "told"), [(0.27, True), (0.8, False)])
def test_a_simpler_candidate_that_breaks_a_limit_is_told_where_it_would_have_been_chosen(
    edge, told
):
    """As good and simpler, it lost to its limit alone; measurably worse, it lost anyway."""
    y, candidates = race(np.random.default_rng(0), 2000, edge=edge)
    found = choose(candidates, y, "rmse", broken={"linear": ["latency_p99 is above 5 ms"]})
    assert found.chosen == "trees"
    why = "linear is simpler and not measurably worse, but was set aside: latency_p99 is above 5 ms"
    assert (why in found.sentence) is told
    assert ("set aside" in found.sentence) is told


def test_no_candidate_within_the_limits_is_an_error_with_all_of_them():
    """No limit is relaxed: the error lists every candidate and what it breaks."""
    y, candidates = race(np.random.default_rng(0), 500, edge=0.8)
    with pytest.raises(LimitError) as told:
        choose(
            candidates, y, "rmse", broken={each.name: ["size is above 1 B"] for each in candidates}
        )
    text = str(told.value)
    assert text.startswith("No model keeps all limits, and none is relaxed. The nearest is trees.")
    assert all(f"{name} " in text for name in ("constant", "linear", "trees"))


def test_a_constant_is_no_way_around_a_limit():
    """Where only the baseline keeps the limits and a model is measurably better: an error."""
    y, candidates = race(np.random.default_rng(0), 500, edge=0.8)
    broken = {name: ["size is above 1 B"] for name in ("linear", "trees")}
    with pytest.raises(LimitError, match="nothing, but it is a constant"):
        choose(candidates, y, "rmse", broken=broken)


def test_the_baseline_is_chosen_where_no_model_is_better_anyway():
    """Models that break limits and are no better than a constant leave the constant chosen."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 500)
    noise = candidate("trees", rng.random(500), 20)
    flat = candidate("constant", np.full(500, 0.5), 0)
    assert choose([flat, noise], y, "auc", broken={"trees": ["size is above 1 B"]}).chosen == (
        "constant"
    )


def test_best_takes_the_best_scorer_and_names_the_simpler_one():
    """`select: best` takes the best score, even where the simpler one is not measurably worse."""
    y, candidates = race(np.random.default_rng(1), 60, edge=0.25)
    assert choose(candidates, y, "rmse").chosen == "linear"
    found = choose(candidates, y, "rmse", by_score=True)
    assert found.chosen == "trees"
    assert "as `select: best` asks; linear is simpler and not measurably worse" in found.sentence


def test_speeds_are_told_as_a_ratio():
    """The slower of the two is told as a multiple, the same is told once."""
    assert speed_sentence("a", 1e-3, "b", 1.1e-3) == "One row takes both about 1.1 ms."
    assert speed_sentence("a", 4e-3, "b", 1e-3).endswith("b 1 ms and a 4 ms, 4 times as long.")


def test_what_was_measured_is_one_table():
    """A line a candidate, a column a limit, a dash for what the machine does not tell."""
    lines = measured_table({"trees": FAST}).splitlines()
    assert lines[0].split() == ["candidate", *Limits.__dataclass_fields__]
    assert lines[1].split()[0] == "trees"
    assert lines[1].endswith("–")
