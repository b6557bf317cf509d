"""Settings: every wrong one is told at once, with its line and the nearest right name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loopline.errors import NotFoundError, SettingsError
from loopline.line.files import parse_yaml, read_line, with_overrides
from loopline.line.spec import Spec, json_schema, make_spec

MINIMAL = {"data": {"source": "a.csv"}, "target": "y"}


def problems(data: dict) -> str:
    with pytest.raises(SettingsError) as caught:
        make_spec(data)
    return "\n".join(caught.value.problems)


def test_minimal_settings_have_defaults() -> None:
    """A source and a target are enough."""
    spec = make_spec(MINIMAL)
    assert [entry.family for entry in spec.models] == ["baseline", "linear", "lightgbm"]
    assert spec.split.method == "auto"


def test_unknown_setting_names_the_nearest() -> None:
    """A misspelt key is told with the right one."""
    assert "`splt` is not a setting. Did you mean `split`?" in problems({**MINIMAL, "splt": {}})


def test_unknown_nested_setting_names_the_nearest() -> None:
    """A misspelt key inside a part is told with the part's keys."""
    told = problems({**MINIMAL, "split": {"fold": 3}})
    assert "`fold` is not a setting of `split`. Did you mean `folds`?" in told


def test_all_problems_at_once() -> None:
    """Unknown keys, wrong values, contradictions and idle settings are told together."""
    told = problems(
        {
            **MINIMAL,
            "seeed": 1,
            "seed": -1,
            "split": {"method": "random", "gap": 5},
            "columns": {"a": {"fill": 3}},
            "models": ["lightgmb"],
        }
    )
    for part in ("`seeed`", "`seed` must be >= 0", "`split.gap`", "`columns.a.fill`", "lightgmb"):
        assert part in told


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"split": {"column": "part"}}, "`split.column` has no effect"),
        ({"split": {"method": "predefined"}}, "needs `split.column` or `data.test`"),
        ({"data": {"source": "a", "test": "b"}, "split": {"test": 0.3}}, "`split.test` has no"),
        ({"columns": {"t": {"role": "time"}}, "split": {"method": "random"}}, "contradicts"),
        ({"columns": {"g": {"role": "group"}}, "split": {"method": "time"}}, "contradicts"),
        ({"columns": {"y": {"role": "id"}}}, "is the `target`"),
        ({"columns": {"z": {"role": "target"}}}, "a line predicts one column"),
        ({"columns": {"a": {"role": "weight"}, "b": {"role": "weight"}}}, "Only one column"),
        ({"columns": {"a": {"missing": "constant"}}}, "needs `columns.a.fill`"),
        ({"columns": {"a": {"role": "id", "missing": "mean"}}}, "has no effect: the column's role"),
        ({"task": "regression", "positive": 1}, "`positive` has no effect"),
        ({"task": "regression", "calibration": "isotonic"}, "`calibration` has no effect"),
        ({"task": "multiclass", "positive": 1}, "`positive` has no effect"),
        ({"objective": {"threshold": "f1", "require": {"recall": 0.9}}}, "is set by one of"),
        ({"objective": {"require": {}}}, "needs `precision`, `recall` or both"),
        ({"objective": {"cost": {"false_positive": 0, "false_negative": 0}}}, "above 0"),
        ({"models": []}, "at least one family"),
        ({"models": {"lightgbm": {"learning_rat": 0.1}}}, "learning_rate"),
        ({"models": {"lightgbm": {"learning_rate": -1}}}, "learning_rate"),
        ({"seed": "x"}, "`seed` must be a whole number"),
        ({"split": {"test": 1.5}}, "`split.test` must be < 1"),
        ({"split": {"method": "magic"}}, "`split.method` must be one of"),
    ],
)  # fmt: skip
def test_wrong_settings_are_told(change: dict, part: str) -> None:
    """Each contradiction, idle setting and wrong value has its sentence."""
    assert part in problems({**MINIMAL, **change})


def test_missing_required_setting() -> None:
    """A settings file without a target says so."""
    assert "`target` is required" in problems({"data": {"source": "a.csv"}})


def test_line_numbers_are_told(tmp_path: Path) -> None:
    """A problem in a file names the file and the line."""
    file = tmp_path / "loopline.yaml"
    file.write_text("data: {source: a.csv}\ntarget: y\nsplit:\n  folds: 1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"loopline\.yaml: line 4: `split.folds` must be >= 2"):
        read_line(file)


def test_repeated_key_is_refused(tmp_path: Path) -> None:
    """A key that stands twice is an error, not a silent overwrite."""
    file = tmp_path / "loopline.yaml"
    file.write_text("target: y\ntarget: z\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="`target` stands twice"):
        parse_yaml(file)


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    """Text that is no YAML is told with its line."""
    file = tmp_path / "loopline.yaml"
    file.write_text("data: {source: a.csv\ntarget: y\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="line 2: this is not valid YAML"):
        parse_yaml(file)


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    """Python tags in YAML are refused."""
    file = tmp_path / "loopline.yaml"
    file.write_text("target: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="not valid YAML"):
        parse_yaml(file)


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    """Without a settings file the way to one is told."""
    with pytest.raises(NotFoundError, match="loopline init"):
        read_line(tmp_path / "loopline.yaml")


def test_overrides_rule() -> None:
    """`--set` reaches nested keys and reads values as YAML."""
    data = with_overrides(MINIMAL, ["split.folds=3", "models=[linear]", "data.source=b.csv"])
    spec = make_spec(data)
    assert (spec.split.folds, spec.data.source) == (3, "b.csv")
    assert [entry.family for entry in spec.models] == ["linear"]


def test_override_without_equals_sign() -> None:
    """`--set key` without a value is refused."""
    with pytest.raises(SettingsError, match="takes key=value"):
        with_overrides(MINIMAL, ["seed"])


def test_digest_ignores_places_but_not_choices() -> None:
    """Where results are kept is no part of a line's identity; the seed is."""
    base = make_spec(MINIMAL)
    assert base.digest() == make_spec({**MINIMAL, "store": "elsewhere"}).digest()
    assert base.digest() != make_spec({**MINIMAL, "seed": 1}).digest()


def test_same_family_twice_gets_two_names() -> None:
    """A list may hold one family several times with different parameters."""
    spec = make_spec({**MINIMAL, "models": [{"lightgbm": {"num_leaves": 7}}, "lightgbm"]})
    assert [entry.name for entry in spec.models] == ["lightgbm", "lightgbm-2"]


def test_portable_settings_read_back() -> None:
    """What a release carries of the settings makes the same line again."""
    spec = make_spec({**MINIMAL, "models": {"linear": {}}, "columns": {"a": {"map": {-9: None}}}})
    assert make_spec(json.loads(json.dumps(spec.portable()))).portable() == spec.portable()


def test_settings_are_frozen() -> None:
    """A checked line cannot be changed."""
    with pytest.raises(Exception, match="frozen"):
        make_spec(MINIMAL).seed = 3  # type: ignore[misc]


def test_json_schema_names_every_setting() -> None:
    """The published JSON Schema has every key of the settings, each with a description."""
    schema = json_schema()
    assert set(schema["properties"]) == set(Spec.model_fields)
    for part in [schema, *schema["$defs"].values()]:
        for name, entry in part.get("properties", {}).items():
            described = "description" in entry or "$ref" in entry or "allOf" in entry
            assert described, name
