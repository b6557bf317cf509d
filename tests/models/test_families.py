"""Family names, parameter checks and what an unfit request is told."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from loopline.errors import EnvironmentProblem, SettingsError
from loopline.models.base import FitContext
from loopline.models.families import CORE_FAMILIES, FAMILY_NAMES, family
from loopline.testing.families import make_view


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_every_name_gives_the_family_of_that_name(name):
    """`family(name).name` is `name`."""
    assert family(name).name == name


def test_families_stand_from_simple_to_complex():
    """The list of names is in the order of complexity, and starts with the core."""
    complexities = [family(name).complexity for name in FAMILY_NAMES]
    assert complexities == sorted(complexities)
    assert FAMILY_NAMES[: len(CORE_FAMILIES)] == CORE_FAMILIES


def test_a_wrong_family_name_is_told_the_nearest():
    """A mistyped family gets a hint; a far one gets the list."""
    with pytest.raises(SettingsError, match='no model family "XGBost"; did you mean "xgboost"'):
        family("XGBost")
    with pytest.raises(SettingsError, match='choose from "baseline", "linear"'):
        family("zzz")


def test_all_wrong_parameters_are_told_at_once():
    """Unknown names (with the nearest) and values outside their range come in one error."""
    given = {"learning_rat": 0.1, "learning_rate": 0, "num_leaves": 1.5, "rounds": True}
    with pytest.raises(SettingsError) as caught:
        family("lightgbm").fit(make_view("binary"), None, given, FitContext(seed=0))
    assert caught.value.problems == (
        "The lightgbm family has no parameter `learning_rat` for this task. "
        "Did you mean `learning_rate`?",
        "`learning_rate` of the lightgbm family must be a number > 0 and <= 1, got 0.",
        "`num_leaves` of the lightgbm family must be an integer >= 2 and <= 131072, got 1.5.",
        '`rounds` of the lightgbm family must be an integer >= 1 and <= 100000 or "auto", '
        "got True.",
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, "strong", None])
def test_a_penalty_must_be_a_positive_finite_number(bad):
    """No value that would make a fit meaningless passes."""
    with pytest.raises(SettingsError, match=r"`penalty` of the linear family must be a number > 0"):
        family("linear").resolve({"penalty": bad}, "binary", 100)


def test_a_parameter_without_effect_is_refused():
    """An objective for classes, or an l1 ratio for logistic regression, has no meaning here."""
    for name, parameter in (("lightgbm", "objective"), ("linear", "l1_ratio")):
        with pytest.raises(SettingsError, match=f"no parameter `{parameter}` for this task"):
            family(name).resolve({parameter: "mae"}, "binary", 100)


@pytest.mark.parametrize("name", ["xgboost", "catboost"])
def test_a_missing_extra_is_named(name, monkeypatch):
    """Without its library a family says which extra to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentProblem, match=rf"pip install 'loopline\[{name}\]'"):
        family(name).fit(make_view("binary"), None, {}, FitContext(seed=0))


def test_asking_for_a_family_imports_nothing_heavy():
    """Naming every family needs no model library."""
    script = (
        "import sys; from loopline.models.families import *\n"
        "for name in FAMILY_NAMES: family(name).defaults('binary', 10)\n"
        "print([m for m in ('lightgbm','sklearn','scipy','pandas','xgboost','catboost')"
        " if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
