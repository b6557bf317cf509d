"""The settings file: reading YAML with line numbers, `--set` overrides, and where paths start."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loopline.errors import DataError, NotFoundError, SettingsError
from loopline.line.spec import Spec, make_spec

DEFAULT_FILE = "loopline.yaml"


@dataclass(frozen=True)
class LineFile:
    """A settings file that was read and checked.

    Args:
        spec: the settings, `--set` overrides included.
        folder: where relative paths start.
        path: the file, None for settings that come from Python.
    """

    spec: Spec
    folder: Path
    path: Path | None = None


def read_line(path: str | Path | None = None, overrides: Sequence[str] = ()) -> LineFile:
    """Read a settings file and apply ``key=value`` overrides.

    Args:
        path: the YAML file, or a folder that holds a ``loopline.yaml`` (default: this folder).
        overrides: dotted keys with YAML values, such as ``split.folds=3``.

    Raises:
        NotFoundError: no such file.
        SettingsError: every problem at once, with line numbers.
    """
    file = Path(path).expanduser() if path is not None else Path(DEFAULT_FILE)
    if file.is_dir():
        file = file / DEFAULT_FILE
    if not file.exists():
        raise NotFoundError(
            f"There is no settings file {str(file)!r}. "
            "Make one with `loopline init DATA --target COLUMN`."
        )
    data, lines = parse_yaml(file)
    data, problems = _overridden(data, overrides)
    for override in overrides:
        key = override.partition("=")[0].strip()
        lines = {
            name: line
            for name, line in lines.items()
            if name != key and not name.startswith(f"{key}.")
        }
    try:
        spec = make_spec(data, where=str(file), lines=lines)
    except SettingsError as error:
        raise SettingsError([*problems, *error.problems], str(file)) from None
    if problems:
        raise SettingsError(problems)
    return LineFile(spec, file.resolve().parent, file)


def parse_yaml(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping in a YAML file and the line number of each dotted key."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8 text (byte {error.start}). Save the settings file as UTF-8."
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise SettingsError([f"this is not valid YAML: {problem}."], f"{file}{place}") from None
    except RecursionError:
        raise SettingsError(["the settings are nested too deeply to be read."], str(file)) from None
    if not isinstance(data, dict) or node is None:
        raise SettingsError(
            ["a settings file is a mapping with at least `data` and `target`."], str(file)
        )
    lines: dict[str, int] = {}
    repeated = _line_numbers(node, (), lines)
    if repeated:
        raise SettingsError(repeated, str(file))
    return data, lines


def _line_numbers(node: yaml.Node, path: tuple[str, ...], lines: dict[str, int]) -> list[str]:
    problems: list[str] = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = (*path, str(key.value))
            dotted = ".".join(name)
            if dotted in lines:
                problems.append(
                    f"line {key.start_mark.line + 1}: `{dotted}` stands twice "
                    f"(first in line {lines[dotted]}). Remove one."
                )
            lines[dotted] = key.start_mark.line + 1
            problems.extend(_line_numbers(value, name, lines))
    return problems


def with_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply ``key=value`` overrides to plain settings.

    >>> with_overrides({"seed": 0}, ["split.folds=3", "seed=7"])
    {'seed': 7, 'split': {'folds': 3}}
    """
    result, problems = _overridden(data, overrides)
    if problems:
        raise SettingsError(problems)
    return result


def _overridden(
    data: Mapping[str, Any], overrides: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """The settings with those overrides that can be read, and what is wrong with the others."""
    result: dict[str, Any] = copy.deepcopy(dict(data))
    problems: list[str] = []
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign or not key.strip():
            problems.append(f"`--set` takes key=value, got {override!r}.")
            continue
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            problems.append(f"`--set {key}`: the value {text!r} is not valid YAML.")
            continue
        *parents, last = key.strip().split(".")
        node = result
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                node[parent] = {}
            node = node[parent]
        node[last] = value
    return result, problems
