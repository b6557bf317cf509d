"""Writes the generated pages of docs/: commands, settings and the reference of public names.

python docs/generate.py            writes them
python docs/generate.py --check    exits 1 when one of them is not what it should be
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

import loopline
from loopline.cli.app import app
from loopline.data.cleaning.policy import KINDS
from loopline.evaluate.metrics import METRIC_NAMES
from loopline.line.spec import Spec, json_schema
from loopline.models.families import FAMILY_NAMES, family
from loopline.serve.settings import ServeSettings

HERE = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py; `make docs` writes it anew. -->\n"


def commands() -> str:
    """Every command with its arguments and options."""
    import typer.main

    root = typer.main.get_command(app)
    lines = [NOTE, "# Commands", "", str(root.epilog), ""]
    lines += [
        "Every command takes `--json` and then prints one JSON object; errors too.",
        "Progress goes to the error stream: bars on a terminal, plain lines elsewhere.",
        "",
    ]

    def describe(command: Any, path: str) -> None:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                describe(inner, f"{path} {name}")
            return
        lines.append(f"## `{path}`")
        lines.append("")
        lines.append(inspect.cleandoc(command.help or ""))
        lines.append("")
        for parameter in command.params:
            if parameter.name == "help":
                continue
            if parameter.param_type_name == "argument":
                label = (parameter.metavar or parameter.name).upper()
            else:
                label = ", ".join(parameter.opts)
            needed = "" if parameter.required else default_of(parameter)
            lines.append(f"- `{label}`: {parameter.help}{needed}")
        lines.append("")

    describe(root, "loopline")
    return "\n".join(lines).rstrip() + "\n"


def default_of(parameter: Any) -> str:
    """A parameter's default in words, where it has one worth telling."""
    value = parameter.default
    if value in (None, False, True, ()) or callable(value) or "default" in (parameter.help or ""):
        return ""
    return f" Default: `{value}`."


def settings() -> str:
    """Every key of the settings file."""
    lines = [
        NOTE,
        "# Settings",
        "",
        "A line is one YAML file. Only `data.source` and `target` are required; everything else is "
        "inferred or has a default. `loopline init` writes the file, `loopline schema` prints its "
        "JSON Schema, `${NAME}` in `data.source` and `data.test` is filled from the environment. "
        "An unknown key, a wrong value, a contradiction and a key without effect are errors, all "
        "told at once.",
        "",
        "| key | values | default | meaning |",
        "|---|---|---|---|",
    ]
    rows(Spec, "", lines)
    lines += ["", "## Model families and their parameters", ""]
    lines.append(
        "`models` takes a name, a list of names, a mapping `name: {parameter: value}`, or a list "
        "of such mappings (the same family several times with different parameters)."
    )
    lines.append("")
    for name in FAMILY_NAMES:
        kind = family(name)
        task = "regression" if "regression" in kind.tasks else "binary"
        shown = ", ".join(f"`{k}` ({v})" for k, v in kind.defaults(task, 10_000).items())
        lines.append(f"- `{name}`: {shown or 'no parameters'}. {first_line(type(kind))}")
    lines += ["", "## Metrics", "", "`objective.metric` is one of:", ""]
    lines.append(", ".join(f"`{name}`" for name in METRIC_NAMES) + ".")
    lines.append("Arguments follow `=`: `recall_at_precision=0.9`, `pinball=0.1`, `cost=1,5`.")
    lines += ["", "## A service", ""]
    lines.append(
        "`loopline serve --settings FILE` takes these, as YAML; `--set key=value` rules over the "
        "file, and the command's own options over both. [Serving](serving.md) tells what they do."
    )
    lines += ["", "| key | values | default | meaning |", "|---|---|---|---|"]
    rows(ServeSettings, "", lines)
    lines += ["", "## Kinds of findings", "", "`clean` takes, for each of these kinds, "]
    lines[-1] += "`report`, `repair` or `off`:"
    lines += ["", ", ".join(f"`{kind}`" for kind in KINDS) + ".", ""]
    return "\n".join(lines).rstrip() + "\n"


def rows(model: type[BaseModel], path: str, lines: list[str]) -> None:
    """One line a key, parts indented by their dotted path."""
    for name, field in model.model_fields.items():
        inner = model_in(field.annotation)
        key = f"{path}{name}"
        if key == "columns":
            key = "columns.<name>"
        if inner is not None and name != "models":
            rows(inner, f"{key}.", lines)
            continue
        default = "required" if field.is_required() else shown_default(field.default)
        lines.append(
            f"| `{key}` | {values_of(field.annotation)} | {default} | {field.description} |"
        )


def shown_default(value: Any) -> str:
    """A default as YAML would write it."""
    if value is None or value in ((), {}):
        return "–"
    return f"`{json.dumps(value)}`"


def values_of(annotation: Any) -> str:
    """The values that a key takes."""
    if get_origin(annotation) is not None and str(get_origin(annotation)).endswith("Literal"):
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    names = {str: "text", int: "whole number", float: "number", bool: "true, false"}
    if annotation in names:
        return names[annotation]
    arguments = [part for part in get_args(annotation) if part is not type(None)]
    origin = get_origin(annotation)
    if origin is tuple:
        return "list"
    if origin is dict:
        return "mapping"
    found = [values_of(part) for part in arguments if not callable(getattr(part, "func", None))]
    return " or ".join(dict.fromkeys(part for part in found if part)) or "text"


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings part inside an annotation, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = model_in(argument)
        if found is not None:
            return found
    return None


def first_line(thing: Any) -> str:
    """The first sentence of a docstring."""
    return inspect.getdoc(thing).split("\n\n")[0].replace("\n", " ")


def reference() -> str:
    """Every public name with its signature and docstring."""
    lines = [NOTE, "# Reference", "", "The public names of the package `loopline`.", ""]
    for name in sorted(loopline.__all__):
        value = getattr(loopline, name)
        if name == "__version__":
            lines += ["## `loopline.__version__`", "", "The installed version.", ""]
            continue
        signature = ""
        if not (isinstance(value, type) and issubclass(value, (BaseException, BaseModel))):
            signature = str(inspect.signature(value)).replace(" -> None", "")
        if name == "Release":
            signature = ""
        lines += [f"## `loopline.{name}`", ""]
        if signature:
            lines += ["```text", f"{name}{plain_signature(value)}", "```", ""]
        lines += ["```text", inspect.getdoc(value) or "", "```", ""]
        if isinstance(value, type) and not issubclass(value, (BaseException, BaseModel)):
            for member, function in inspect.getmembers(value):
                if member.startswith("_") or not inspect.getdoc(function):
                    continue
                lines.append(f"- `{name}.{member}`: {first_line(function)}")
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def plain_signature(value: Any) -> str:
    """A signature with one argument a line."""
    parameters = inspect.signature(value).parameters.values()
    shown = [str(parameter) for parameter in parameters]
    return "(\n    " + ",\n    ".join(shown) + ",\n)" if len(shown) > 3 else f"({', '.join(shown)})"


PAGES = {
    "commands.md": commands,
    "settings.md": settings,
    "reference.md": reference,
    "loopline.schema.json": lambda: json.dumps(json_schema(), indent=1) + "\n",
}


def stale() -> list[str]:
    """The pages that are not what they should be."""
    wrong = []
    for name, make in PAGES.items():
        path = HERE / name
        if not path.exists() or path.read_text(encoding="utf-8") != make():
            wrong.append(name)
    return wrong


def main() -> int:
    """Write the pages, or check them."""
    if "--check" in sys.argv:
        wrong = stale()
        if wrong:
            print(f"Not up to date: {', '.join(wrong)}. Run `make docs`.")
        return int(bool(wrong))
    for name, make in PAGES.items():
        (HERE / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
