"""The choice: the simplest that is not measurably worse, by simulation and by sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest

from loopline.errors import InputError
from loopline.select.candidates import Candidate
from loopline.select.choose import choose


def candidate(name, prediction, complexity=10, size_bytes=0):
    return Candidate(name, name, complexity, prediction, size_bytes=size_bytes)


def race(rng, num_rows, *, edge=0.0, spread=0.25):
    """Values from a linear model; `linear` is right, `trees` adds its own noise less an edge."""
    signal = rng.standard_normal(num_rows)
    bend = rng.standard_normal(num_rows)
    y = signal + edge * bend + rng.standard_normal(num_rows)
    trees = signal + edge * bend + spread * rng.standard_normal(num_rows)
    return y, [
        candidate("constant", np.zeros(num_rows), 0),
        candidate("linear", signal, 10),
        candidate("trees", trees, 20),
    ]


def test_linear_data_keeps_the_linear_model():
    """When the truth is linear, the linear model is chosen in at least 95 % of 300 races."""
    chosen = [
        choose(race_[1], race_[0], "rmse").chosen
        for race_ in (race(np.random.default_rng(seed), 300, spread=0.15) for seed in range(300))
    ]
    assert chosen.count("linear") >= 285


def test_equally_good_trees_lose_to_the_simpler_model():
    """Two models that are equally good by construction: the simpler wins in 95 % of the races."""
    wins = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        signal = rng.standard_normal(300)
        y = signal + rng.standard_normal(300)
        pair = [
            candidate(name, signal + 0.5 * rng.standard_normal(300), complexity)
            for name, complexity in (("linear", 10), ("trees", 20))
        ]
        wins += choose(pair, y, "rmse").chosen == "linear"
    assert wins / 300 >= 0.95


def test_many_equal_candidates_do_not_win_by_luck():
    """With 12 equal complex candidates the simplest still wins in about 95 % of the races."""
    wins = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        signal = rng.standard_normal(200)
        y = signal + rng.standard_normal(200)
        crowd = [
            candidate(f"c{k:02}", signal + 0.5 * rng.standard_normal(200), 10 + k)
            for k in range(13)
        ]
        wins += choose(crowd, y, "mae").chosen == "c00"
    assert wins / 200 >= 0.92


def test_clearly_better_is_chosen():
    """A model that is clearly better is chosen, with the distance in the sentence."""
    y, candidates = race(np.random.default_rng(0), 2000, edge=0.8)
    found = choose(candidates, y, "rmse")
    assert (found.chosen, found.best) == ("trees", "trees")
    assert found.sentence.startswith("trees scored best with 1.0")
    assert "RMSE; the simpler linear 1.2" in found.sentence
    assert "is worse by 0.2" in found.sentence
    assert ", so trees was chosen. It beats" in found.sentence
    assert "It beats the baseline (constant) by 0.5" in found.sentence


def test_simpler_within_noise_tells_what_could_be_seen():
    """When the simpler one is kept, the sentence says what the rows could not have shown."""
    y, candidates = race(np.random.default_rng(1), 60, edge=0.25)
    found = choose(candidates, y, "rmse")
    assert (found.chosen, found.best) == ("linear", "trees")
    assert "linear" in found.sentence
    assert "is simpler and not measurably worse (" in found.sentence
    assert "on 60 rows a true difference below 0." in found.sentence
    assert "is likely to go unseen" in found.sentence
    assert "the baseline (constant)" in found.sentence


def test_noise_chooses_the_baseline():
    """On labels of coin flips the baseline is chosen and the sentence says so."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 500)
    found = choose(
        [candidate("constant", np.full(500, 0.5), 0), candidate("trees", rng.random(500), 20)],
        y,
        "auc",
    )
    assert found.chosen == "constant"
    assert found.sentence.startswith("Nothing beats the baseline (constant)")
    assert "this data does not support a model better than the baseline" in found.sentence
    assert found.over_baseline is None


def test_identical_predictions_choose_the_simplest():
    """Equal predictions: complexity decides, then size, then name; the order given does not."""
    p, y = np.tile([0.3, 0.6], 50), np.tile([0, 1], 50)
    crowd = [
        candidate("d", p, 20, 5),
        candidate("b", p, 10, 9),
        candidate("c", p, 10, 7),
        candidate("a", p, 10, 9),
    ]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        assert choose([crowd[k] for k in order], y, "auc").chosen == "c"
    assert choose([crowd[1], crowd[3]], y, "auc").chosen == "a"
    assert "predicts the same" in choose([crowd[0], candidate("z", p, 10)], y, "auc").sentence or (
        choose([crowd[0], candidate("z", p, 10)], y, "auc").best == "z"
    )


def test_margin_lets_a_little_worse_pass():
    """A simpler model that is measurably worse is kept when it is so by less than the margin."""
    y, candidates = race(np.random.default_rng(3), 3000, edge=0.4)
    assert choose(candidates, y, "rmse").chosen == "trees"
    kept = choose(candidates, y, "rmse", margin=0.2)
    assert kept.chosen == "linear"
    assert "not measurably worse by more than the margin of 0.2" in kept.sentence
    assert choose(candidates, y, "rmse", margin=0.001).chosen == "trees"


def test_more_comparisons_need_more_evidence():
    """The same gap that decides between two does not decide among many: Holm's widening."""
    rng = np.random.default_rng(4)
    y = np.zeros(100)
    noise = rng.standard_normal(100)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    best, simple = np.full(100, 5.0), 5 + 0.22 + noise  # t = 2.2: p = 0.03
    pair = [candidate("simple", simple, 10), candidate("best", best, 20)]
    assert choose(pair, y, "mae").chosen == "best"
    crowd = [candidate(f"x{k}", 5 + 0.1 + np.roll(noise, k + 1), 30) for k in range(4)]
    found = choose([*pair, *crowd], y, "mae")
    assert found.best == "best"
    assert found.chosen == "simple"
    line = next(line for line in found.comparisons if line.name == "simple")
    assert line.behind_best is not None
    assert line.behind_best.level == pytest.approx(0.99)
    assert line.behind_best.low < 0


def test_intervals_of_the_table_decide():
    """In every race, a line counts as worse just when its interval lies beyond the margin."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        y = rng.standard_normal(120)
        crowd = [
            candidate(f"m{k}", y + (1 + 0.06 * k) * rng.standard_normal(120), 10 + k)
            for k in range(5)
        ]
        for line in choose(crowd, y, "mae", margin=0.02).comparisons:
            if line.behind_best is not None:
                assert line.worse == (line.behind_best.low > 0.02)


def test_units_make_the_choice_cautious():
    """The same gap counts on 400 rows and not on 8 patients."""
    rng = np.random.default_rng(5)
    unit = np.repeat(np.arange(8), 50)
    shift = np.array([0.9, -0.5, 0.7, 0.6, -0.4, 0.8, -0.3, 0.5])[unit]
    y, better = np.zeros(400), np.full(400, 5.0)
    worse = 5 + shift + 0.1 * rng.standard_normal(400)
    pair = [candidate("simple", worse, 10), candidate("trees", better, 20)]
    assert choose(pair, y, "mae").chosen == "trees"
    by_patient = choose(pair, y, "mae", units=unit)
    assert by_patient.chosen == "simple"
    assert "on 8 independent units" in by_patient.sentence


def test_baseline_that_scores_best_is_told():
    """When the baseline itself scores best, nothing beats it."""
    y = np.array([0.0, 1, 0, 1] * 10)
    found = choose(
        [candidate("mean", np.full(40, 0.5), 0), candidate("wild", 5 * y - 3, 20)], y, "rmse"
    )
    assert found.sentence.startswith("Nothing beats the baseline (mean), which itself scored best")


def test_race_without_a_baseline_says_so():
    """Without a baseline the sentence says that none ran; one candidate is told as the only one."""
    y, candidates = race(np.random.default_rng(6), 500)
    assert choose(candidates[1:], y, "rmse").sentence.endswith("No baseline was in the race.")
    alone = choose(candidates[1:2], y, "rmse")
    assert alone.sentence.startswith("linear is the only candidate: ")


def test_refusals():
    """No candidates, names that stand twice, a wrong margin or an undefined metric are refused."""
    y, candidates = race(np.random.default_rng(7), 50)
    with pytest.raises(InputError, match="at least one candidate"):
        choose([], y, "rmse")
    with pytest.raises(InputError, match="'linear' stands there twice"):
        choose([candidates[1], candidates[1]], y, "rmse")
    with pytest.raises(InputError, match="`margin` must be a number >= 0, got -1"):
        choose(candidates, y, "rmse", margin=-1)
    flat = [candidate("a", np.full(5, 0.1)), candidate("b", np.full(5, 0.2))]
    with pytest.raises(InputError, match="cannot be compared by auc on these rows: only one class"):
        choose(flat, np.ones(5, dtype=int), "auc")


def test_choice_is_plain_data_and_repeats():
    """A choice goes through JSON and is the same each time."""
    y, candidates = race(np.random.default_rng(8), 200)
    once = json.dumps(choose(candidates, y, "median_ae", seed=1).to_dict(), allow_nan=False)
    again = json.dumps(choose(candidates, y, "median_ae", seed=1).to_dict(), allow_nan=False)
    assert once == again
    assert json.loads(once)["comparisons"][0]["behind_best"] is None
