"""The policy: what is told, what is repaired, what is not looked for."""

from __future__ import annotations

import polars as pl
import pytest

from loopline.data.clean import CleanPolicy, find_problems, plan_repairs
from loopline.data.cleaning.policy import KINDS, REPAIRABLE
from loopline.data.schema import Column, Schema
from loopline.errors import SettingsError

SCHEMA = Schema((Column("c", "category"), Column("y", "number", "target")), "regression")
FRAME = pl.DataFrame({"c": ["Yes", "yes", "Yes", "No"], "y": [1.0, float("inf"), 2.0, 3.0]})


def test_only_rules_without_statistics_repair_by_default():
    """The kinds repaired by default are spellings, edge blanks and infinite numbers."""
    policy = CleanPolicy()
    repaired = {kind for kind in KINDS if policy.action(kind) == "repair"}
    assert repaired == {"spelling", "edge_blanks", "infinite"}


def test_the_policy_survives_plain_data():
    """to_dict and from_dict are inverse."""
    policy = CleanPolicy(sentinel="repair", outliers="off")
    assert CleanPolicy.from_dict(policy.to_dict()) == policy


def test_an_unknown_kind_is_refused_with_the_nearest_name():
    """A misspelt kind is refused, and the right one is named."""
    with pytest.raises(
        SettingsError, match="`spellings` is no known kind; did you mean `spelling`"
    ):
        CleanPolicy.from_dict({"spellings": "off"})


def test_an_unknown_action_is_refused():
    """Only report, repair and off are actions."""
    with pytest.raises(
        SettingsError, match="`spelling` must be one of report, repair, off, got 'fix'"
    ):
        CleanPolicy.from_dict({"spelling": "fix"})


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in REPAIRABLE])
def test_repairing_what_has_no_repair_is_refused(kind):
    """A setting without effect is an error."""
    with pytest.raises(SettingsError, match=f"`{kind}` cannot be repaired, only reported"):
        CleanPolicy.from_dict({kind: "repair"})


def test_all_problems_are_told_at_once():
    """Two wrong settings give two sentences."""
    with pytest.raises(SettingsError, match="2 problems") as caught:
        CleanPolicy.from_dict({"missing": "repair", "spelling": "x"})
    assert len(caught.value.problems) == 2


def test_off_is_not_told():
    """A kind that is off gives no finding and no repair."""
    policy = CleanPolicy(spelling="off", label_disagreement="off")
    findings = find_problems(FRAME, SCHEMA, policy=policy)
    assert [finding.kind for finding in findings] == ["infinite"]


def test_report_tells_and_repairs_nothing():
    """Under `report` the repair is proposed, not applied."""
    policy = CleanPolicy(spelling="report", infinite="report", label_disagreement="off")
    findings = find_problems(FRAME, SCHEMA, policy=policy)
    assert {finding.kind: finding.applied for finding in findings} == {
        "spelling": False,
        "infinite": False,
    }
    assert all(finding.repair is not None for finding in findings)
    assert plan_repairs(findings, policy) == ()


def test_maps_from_the_settings_come_first():
    """Explicit maps are applied before what was found."""
    plan = plan_repairs(find_problems(FRAME, SCHEMA), maps={"c": {"No": "no"}})
    assert [(repair.kind, repair.column) for repair in plan] == [
        ("replace_values", "c"),
        ("replace_values", "c"),
        ("replace_values", "y"),
    ]
    assert plan[0].reason == "from the settings"
