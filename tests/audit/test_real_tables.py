"""Public tables whose traps are known: the audit names each of them, with nothing said beforehand.

What it says of each stands in `docs/audit.md`, as printed by `benchmarks/real_audit.py`, which is
what runs here.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
Real = Callable[[str, str], list[Any]]


@cache
def benchmark() -> ModuleType:
    """`benchmarks/real_audit.py` as a module."""
    spec = importlib.util.spec_from_file_location("real_audit", BENCHMARKS / "real_audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_audit"] = module
    spec.loader.exec_module(module)
    return module


@cache
def claims_of(base: Path, table: str) -> list[Any]:
    module = benchmark()
    module.DATA = base
    return getattr(module, table)()


@pytest.fixture
def real(data_dir: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Real:
    """What the audit says of a table: real(folder, function of the benchmark)."""

    def said(folder: str, table: str) -> list[Any]:
        base = data_dir(folder).parent
        monkeypatch.setenv("LOOPLINE_DATA", str(base))
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        return claims_of(base, table)

    return said


def holds(claims: list[Any], trap: str) -> None:
    (found,) = [each for each in claims if trap in each.trap]
    assert found.holds, found.said


def test_bike_sharing_riders_add_up_to_the_count(real: Real) -> None:
    """Casual and registered riders together are the target, and a leak."""
    holds(real("bike_sharing", "bike_sharing"), "`casual` + `registered`")


def test_bike_sharing_hours_are_no_lottery(real: Real) -> None:
    """What a random split would promise too much is measured."""
    holds(real("bike_sharing", "bike_sharing"), "hours in a row")


def test_parkinsons_subjects_are_held_together(real: Real) -> None:
    """By the values of a column that does not say what it is."""
    holds(real("parkinsons_telemonitoring", "parkinsons"), "column renamed")


def test_parkinsons_subjects_are_known_by_age_and_sex(real: Real) -> None:
    """With the subject's column gone, those two are named."""
    holds(real("parkinsons_telemonitoring", "parkinsons"), "taken away")


def test_parkinsons_motor_score_is_told(real: Real) -> None:
    """One half of the score foretells the whole."""
    holds(real("parkinsons_telemonitoring", "parkinsons"), "motor_UPDRS")


def test_wine_repeats_are_counted(real: Real) -> None:
    """1,177 rows repeat another."""
    holds(real("wine_quality", "wine"), "1,177 rows")


def test_wine_repeats_share_a_side(real: Real) -> None:
    """Rows of equal features are one unit of the split."""
    holds(real("wine_quality", "wine"), "share a side")


def test_titanic_alive_is_a_leak(real: Real) -> None:
    """The target in words."""
    holds(real("titanic", "titanic"), "`alive`")


def test_titanic_columns_that_say_the_same_are_told(real: Real) -> None:
    """Class by number and by word."""
    holds(real("titanic", "titanic"), "`class`")


def test_adult_education_twice_is_told(real: Real) -> None:
    """By word and by number."""
    holds(real("adult", "adult"), "`education`")


def test_adult_weight_is_no_feature(real: Real) -> None:
    """The sampling weight is not learned from."""
    holds(real("adult", "adult"), "fnlwgt")


def test_adult_has_no_leak(real: Real) -> None:
    """An honest table is not stopped."""
    holds(real("adult", "adult"), "nothing in it")


def test_mammography_repeats_are_counted(real: Real) -> None:
    """3,334 rows repeat another; nearly all are one common value, and the audit says so."""
    holds(real("mammography", "mammography"), "3,334 rows")


def test_sms_repeats_are_counted(real: Real) -> None:
    """403 messages repeat another."""
    holds(real("sms_spam", "sms_spam"), "403 messages")


def test_sms_repeats_share_a_side(real: Real) -> None:
    """Equal messages are one unit of the split."""
    holds(real("sms_spam", "sms_spam"), "share a side")


def test_sms_templates_are_held_together(real: Real) -> None:
    """Messages that differ in a number or a name share a side."""
    holds(real("sms_spam", "sms_spam"), "templates")


@pytest.mark.slow
def test_imdb_rating_is_a_leak(real: Real) -> None:
    """The stars give the label."""
    holds(real("imdb_with_label_errors", "imdb"), "the rating")


@pytest.mark.slow
def test_imdb_order_is_told(real: Real) -> None:
    """Rows and ids stand class by class."""
    holds(real("imdb_with_label_errors", "imdb"), "class by class")


@pytest.mark.slow
def test_imdb_test_reviews_in_training_are_found(real: Real) -> None:
    """All 123 share a cluster with their copy."""
    holds(real("imdb_with_label_errors", "imdb"), "123 test reviews")


@pytest.mark.slow
def test_imdb_wrong_labels_lead_the_list(real: Real) -> None:
    """Of the re-judged labels among the first 100 at least half are wrong."""
    holds(real("imdb_with_label_errors", "imdb_labels"), "re-judged")


@pytest.mark.slow
def test_mnist_wrong_labels_lead_the_list(real: Real) -> None:
    """Half of the known errors are among the first 400 of 10,000 images."""
    holds(real("mnist_png_label_errors", "mnist_labels"), "re-judged")


def test_sign_language_students_are_noticed(real: Real) -> None:
    """Ten photos of one hand, named nowhere: told where keeping them together changes the score."""
    holds(real("sign_language_digits", "sign_language"), "218 students")


def test_elec2_rows_are_in_time(real: Real) -> None:
    """No column says when; the order of the rows does."""
    holds(real("elec2_drift", "elec2"), "half-hours")


@pytest.mark.slow
def test_a_whole_audit_of_a_hundred_thousand_rows_is_bounded() -> None:
    """100,000 rows × 30 columns: two minutes of two processors, a floor and 4 × the table."""
    found = benchmark().cost((100_000, 400_000))
    assert found["sizes"][0]["cpu_seconds"] <= 240
    assert found["floor_mb"] <= 400
    assert found["tables_on_top"] <= 4.0


@pytest.mark.slow
def test_the_cost_grows_like_a_sort() -> None:
    """From 25,000 to 200,000 rows at most like n log n."""
    found = benchmark().cost((25_000, 200_000))
    assert found["exponent"] <= 1.25
