"""What does a look at a fit on its way save, and what does it lose?

    python benchmarks/fidelity.py curves TABLE FAMILY ROWS TRIALS FOLDS [results.json]
    python benchmarks/fidelity.py rates TABLE FAMILY ROWS FOLDS [results.json]

`curves`  random trials of a family are fitted whole, with what they predict at every rung; then
          they are replayed in many orders, by the rule of folds alone and with rungs
`rates`   a network's score at nine learning rates, and what the range test says, three times

Times are processor seconds of this process, which other work on the machine moves little. Real
tables from LOOPLINE_DATA (default ../shared/data). Results are added to those in the file.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from search_pruning import CASES

from loopline.line.project import open_project
from loopline.line.race import fit_context, fit_fold, metric_name, resolve_params
from loopline.line.search_arms import contest
from loopline.line.search_rates import BEYOND, RATES
from loopline.line.searching import _prepared
from loopline.line.spec import make_spec
from loopline.line.trial_rungs import Leader
from loopline.line.trial_scores import Scorer, full, slim
from loopline.models.families import family
from loopline.progress import SilentReporter
from loopline.search.pruning import FOLD_CHANCE, RUNG_CHANCE
from loopline.search.record import better
from loopline.search.suggest import suggest

RESULTS = Path(__file__).parent / "results" / "fidelity.json"
ORDERS = 100


@dataclass
class Fold:
    """One fold's fit: its seconds, what it predicts, and each rung with the seconds until it."""

    rows: np.ndarray
    prediction: np.ndarray
    seconds: float
    numbers: list[int]
    rungs: list[np.ndarray]
    until: list[float]


class Line:
    """A line of one table and one family, made ready as `loopline search` makes it."""

    def __init__(self, name, family_name, num_rows, folds):
        self.folder = Path(tempfile.mkdtemp())
        case = replace(CASES[name], rows=num_rows)
        case.frame().drop(case.ignore).write_csv(self.folder / "table.csv")
        spec = make_spec(
            {
                "data": {"source": "table.csv"}, "target": case.target, "models": [family_name],
                "threads": 1, "audit": "report", "split": {"folds": folds, "test": 0.2},
                "search": {},
            }
        )  # fmt: skip
        project = open_project(self.folder / "store")
        self.context, self.prepared = _prepared(project, spec, self.folder, SilentReporter(), None)
        found = contest(self.context, self.prepared, spec.search)
        self.arm, self.folds = found.arms[0], folds
        self.entry = found.searched[self.arm.name]
        self.held: dict[int, np.ndarray] = {}
        self._scorers: dict[object, Scorer] = {}

    def fits(self, params, folds=None):
        """A trial's folds."""
        entry = self.entry.model_copy(update={"params": {**self.arm.fixed, **params}})
        return [self._fold(entry, number) for number in range(folds or self.folds)]

    def _fold(self, entry, number):
        numbers, rungs, until = [], [], []

        def rung(view, place, prediction):
            until.append(time.process_time() - began)
            numbers.append(place)
            rungs.append(slim(np.array(prediction)))
            self.held[number] = view.positions.astype(np.int64)

        began = time.process_time()
        fit = fit_fold(self.context, self.prepared, entry, number, rung)
        seconds = time.process_time() - began
        return Fold(fit.rows, fit.prediction, seconds, numbers, rungs, until)

    def scorer(self, folds):
        """Of the validation rows of some folds, by those that gave them."""
        if len(folds) not in self._scorers:
            rows = np.concatenate([fold.rows for fold in folds])
            which = np.repeat(np.arange(len(folds)), [len(fold.rows) for fold in folds])
            self._scorers[len(folds)] = Scorer(self.context, self.prepared, rows, which)
        return self._scorers[len(folds)]

    def held_scorer(self):
        """Of the rows that the first fold's fit holds out."""
        if "held" not in self._scorers:
            rows = self.held[0]
            which = np.zeros(len(rows), dtype=np.int64)
            self._scorers["held"] = Scorer(self.context, self.prepared, rows, which)
        return self._scorers["held"]

    def value(self, folds):
        """The metric out of fold."""
        return self.scorer(folds).value(np.concatenate([fold.prediction for fold in folds]))


class Replay:
    """Trials replayed in any order; every comparison is made once."""

    def __init__(self, line, trials, values, rates):
        self.line, self.trials, self.values, self.rates = line, trials, values, rates
        self.higher = line.scorer(trials[0]).metric.higher_is_better
        self._after: dict[tuple[int, int, int], float] = {}
        self._way: dict[tuple[int, int, int, str], float] = {}

    def after(self, mine, best, folds):
        """The chance to be better after some folds."""
        key = (mine, best, folds)
        if key not in self._after:
            parts = [self.trials[each][:folds] for each in (mine, best)]
            said = [np.concatenate([fold.prediction for fold in part]) for part in parts]
            self._after[key] = self.line.scorer(parts[0]).chance(*said)
        return self._after[key]

    def on_the_way(self, mine, best, place, rule):
        """The chance at a rung of the first fold; 1 where it is not judged."""
        key = (mine, best, place, rule)
        if key not in self._way:
            one, other = self.trials[mine][0], self.trials[best][0]
            numbers, number = np.array(other.numbers), one.numbers[place]
            if rule == "equal rounds":  # a small rate is not waited for
                numbers = numbers - np.log2(self.rates[best])
                number = number - np.log2(self.rates[mine])
            leader = Leader(numbers, np.stack(other.rungs))
            found = leader.at(number)
            self._way[key] = 1.0
            if found is not None:
                scorer = self.line.held_scorer()
                self._way[key] = scorer.chance(full(one.rungs[place]), full(found))
        return self._way[key]

    def run(self, order, rule):
        """Seconds, the best trial, trials given up on the way, and those that were better."""
        best, seconds, left, wrong = None, 0.0, 0, []
        for trial in order:
            given_up = False
            for number, fold in enumerate(self.trials[trial]):
                if best is not None and number == 0 and rule:
                    for place, until in enumerate(fold.until):
                        if self.on_the_way(trial, best, place, rule) < RUNG_CHANCE:
                            seconds, given_up, left = seconds + until, True, left + 1
                            if better(self.values[trial], self.values[best], self.higher):
                                wrong.append(trial)
                            break
                if given_up:
                    break
                seconds += fold.seconds
                last = number == len(self.trials[trial]) - 1
                if best is not None and not last:
                    given_up = self.after(trial, best, number + 1) < FOLD_CHANCE
                if given_up:
                    break
            if given_up:
                continue
            if best is None or better(self.values[trial], self.values[best], self.higher):
                best = trial
        return seconds, best, left, wrong


def curves(name, family_name, num_rows, trials, folds):
    """Whole trials once, then orders of them by each rule."""
    line = Line(name, family_name, num_rows, folds)
    arm, done, rates = line.arm, [], []
    for number in range(trials):
        params = dict(arm.defaults)
        if number:
            params = suggest(
                arm.space, "random", told=(), running=(), seed=1000 + number, higher=True,
                fixed=arm.fixed,
            )  # fmt: skip
        done.append(line.fits(params))
        rates.append(float(params["learning_rate"]))
        print(number, round(line.value(done[-1]), 5), params, flush=True)
    values = [line.value(each) for each in done]
    return {
        "metric": metric_name(line.context, line.prepared),
        "rows": int(sum(len(fold.rows) for fold in done[0])),
        "held": len(line.held[0]),
        **replayed(line, done, values, rates),
    }


def replayed(line, trials, values, rates):
    """What each rule costs and loses, over many orders of the same trials; the first leads."""
    replay = Replay(line, trials, values, rates)
    top = max(values) if replay.higher else min(values)
    whole = sum(fold.seconds for folds in trials for fold in folds)
    rng = np.random.default_rng(0)
    orders = [[0, *(1 + rng.permutation(len(trials) - 1))] for _ in range(ORDERS)]
    found = {
        "trials": len(trials), "folds": len(trials[0]), "defaults": values[0], "best": top,
        "whole_seconds": round(whole, 1),
    }  # fmt: skip
    for rule in ("", "equal way", "equal rounds"):
        ran = [replay.run(order, rule) for order in orders]
        lost = [abs(values[best] - top) / abs(top - values[0]) for _, best, _, _ in ran]
        wrong = [trial for _, _, _, some in ran for trial in some]
        seconds = float(np.mean([each[0] for each in ran]))
        found[rule or "folds alone"] = {
            "seconds": round(seconds, 2),
            "times_less": round(float(whole / seconds), 2),
            "lost_share_of_gain": round(float(np.mean(lost)), 4),
            "given_up_on_the_way": round(float(np.mean([each[2] for each in ran])), 1),
            "of_these_better": round(len(wrong) / ORDERS, 2),
            "of_these_slow": round(
                sum(rates[each] < np.median(rates) for each in wrong) / ORDERS, 2
            ),
        }
    return found


def rates(name, family_name, num_rows, folds):
    """The score by learning rate, and what three range tests say."""
    from dataclasses import replace

    from loopline.engine.tools.find import find_lr

    line = Line(name, family_name, num_rows, folds)
    kind, scale = family(family_name), line.arm.space["learning_rate"]
    train, _ = line.prepared.fold(0)
    params = resolve_params(line.context, line.prepared, line.entry, train.num_rows)
    tests = []
    for seed in range(3):
        began = time.process_time()
        context = replace(fit_context(line.context, line.entry, "range test"), seed=seed)
        run = kind.prepared(train, params, context)
        found = find_lr(run, low=scale.low / BEYOND, high=scale.high * BEYOND, steps=RATES)
        tests.append(
            {
                "fastest": float(f"{found.suggested:.2g}"), "lowest": float(f"{found.limit:.2g}"),
                "seconds": round(time.process_time() - began, 2),
            }
        )  # fmt: skip
        print(tests[-1], flush=True)
    scores = []
    for rate in scale.points(9):
        fits = line.fits({"learning_rate": rate})
        scores.append(
            {
                "rate": float(f"{rate:.2g}"), "score": round(line.value(fits), 5),
                "seconds": round(sum(fold.seconds for fold in fits), 1),
            }
        )  # fmt: skip
        print(scores[-1], flush=True)
    return {
        "metric": metric_name(line.context, line.prepared), "rows": train.num_rows,
        "range_tests": tests, "scores": scores,
    }  # fmt: skip


def main(arguments):
    """Run a part and put its results beside the others."""
    part, name, family_name, *rest = arguments
    numbers = [int(each) for each in rest if each.isdigit()]
    files = [each for each in rest if not each.isdigit()]
    out = Path(files[0]) if files else RESULTS
    found = {"curves": curves, "rates": rates}[part](name, family_name, *numbers)
    print(json.dumps(found, indent=1))
    data = json.loads(out.read_text()) if out.exists() else {}
    data.setdefault(part, {})[f"{name}, {family_name}"] = found
    out.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
