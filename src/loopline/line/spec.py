"""The settings of a line: one typed, frozen value with two spellings, YAML and Python arguments.

Everything that can be said of a line is said here, once. Unknown names, wrong values,
contradictions and settings without effect are errors, all told at once, each with the file's line
and the nearest right name. `json_schema()` is published so that editors complete the YAML.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from loopline.cores import num_cores
from loopline.data.schema import Task, has_classes
from loopline.digest import value_digest
from loopline.errors import SettingsError
from loopline.line.loop_spec import LoopSpec
from loopline.line.problems import sentences
from loopline.line.quantities import (
    read_bytes,
    read_duration,
    read_energy,
    read_floor,
    read_rate,
)
from loopline.line.search_spec import SearchSpec, search_problems
from loopline.monitor.receivers import SinkSettings
from loopline.monitor.settings import MonitorSettings
from loopline.select.limits import Limits, duration

Scalar = str | int | float | bool
WATCHED = ("monitor", "alarms", "loop")
"""Parts of the settings that no run depends on: what is watched and done afterwards."""


_OR_TEXT = WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FormatSpec(_Part):
    """How the source's files are written. Everything left out is detected and told."""

    kind: Literal["csv", "jsonl", "json", "parquet", "arrow", "excel", "sql", "text"] | None = (
        Field(None, description="The kind of file; taken from its name and content when left out.")
    )
    delimiter: str | None = Field(None, description="The character between two cells.")
    quote: str | None = Field(None, description="The character around a quoted cell.")
    encoding: str | None = Field(None, description="The text encoding, such as utf-8 or cp1252.")
    decimal: Literal[".", ","] | None = Field(None, description="The decimal sign of numbers.")
    header: bool | None = Field(None, description="Whether the first row names the columns.")
    columns: Names | None = Field(
        None, description="The columns' names, in order; they replace a header."
    )
    comment: str | None = Field(None, description="Lines that start with this are left out.")
    skip_rows: int | None = Field(None, ge=0, description="Lines to skip before the header.")
    missing: Names | None = Field(None, description="Cells that mean 'missing', such as '?'.")
    thousands: str | None = Field(None, description="What groups the digits of a number.")
    strip: bool | None = Field(None, description="Whether blanks around cells are left out.")
    dates: dict[str, str] | None = Field(
        None, description="For date columns: their format, such as '%d/%m/%Y'."
    )
    images: list[str] | None = Field(
        None, description="Columns of paths, from the table's folder on, to be read as images."
    )
    sheet: str | None = Field(None, description="The Excel sheet to read.")
    table: str | None = Field(None, description="The table of a database.")
    query: str | None = Field(None, description="The SELECT that makes the table.")
    document_bytes: int | None = Field(
        None,
        ge=1,
        description="Plain text, read for `task: language`, is divided at blank lines into "
        "documents of at most so many bytes (default 4096).",
    )
    unreadable: Literal["refuse", "missing"] | None = Field(
        None, description="Cells that are not of their column's type: an error, or missing."
    )


class DataSpec(_Part):
    """Where the rows come from."""

    source: str = Field(
        min_length=1,
        description="A file, glob, URL or SQL URL; relative paths start at the settings file.",
    )
    test: str | None = Field(
        None,
        description="An official test file: its rows are the test side, whatever `split` says.",
    )
    format: FormatSpec = Field(FormatSpec(), description="How the files are written.")


class ColumnSpec(_Part):
    """What one column is and is for; what is left out is inferred and told."""

    role: Literal["feature", "target", "group", "time", "weight", "id", "ignore"] | None = Field(
        None, description="What the column is for; only features reach a model."
    )
    type: Literal["number", "boolean", "category", "datetime", "text", "image", "other"] | None = (
        Field(None, description="How its values are to be read.")
    )
    missing: (
        Literal["auto", "mean", "median", "most_frequent", "constant", "keep", "error"] | None
    ) = Field(None, description="What to do with missing cells.")
    fill: Scalar | None = Field(None, description="The constant for `missing: constant`.")
    map: dict[Scalar, Scalar | None] | None = Field(
        None, description="Values to replace, old: new; null makes them missing."
    )
    separator: str | None = Field(
        None,
        min_length=1,
        description="What stands between the labels of a target that is text, for "
        "`task: multilabel`.",
    )


class SplitSpec(_Part):
    """Which rows are for training, validation and test."""

    method: Literal["auto", "random", "stratified", "group", "time", "group_time", "predefined"] = (
        Field("auto", description="How to cut; `auto` follows the columns' roles and tells why.")
    )
    test: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="The share of rows for the test side; 0 makes none (default 0.2).",
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=50,
        description="Cross-validation folds (default 5, or 3 above 100,000 rows; fewer where the "
        "rows cannot give as many).",
    )
    gap: float | None = Field(
        None,
        ge=0,
        description="For time: what to leave out before each validation or test period, "
        "in seconds for dates, in the column's own unit for numbers.",
    )
    label_end: str | None = Field(
        None,
        description="The column with the time at which a row's label became known (the time column "
        "is the start); training rows whose label was not known yet are left out. It is never a "
        "feature.",
    )
    duplicates: Literal["features", "rows", "ignore"] | None = Field(
        None,
        description="Which rows are copies that share a side: equal in all features, equal in "
        "every column, or none (default features).",
    )
    common_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Feature values that more than this share of the rows have are common, not "
        "copies: such rows are divided one by one.",
    )
    ignore_structure: bool | None = Field(
        None,
        description="`true` lets a method cut through a declared group or time; it is counted.",
    )
    column: str | None = Field(
        None, description="For `predefined`: the column that says train, test or a fold number."
    )


class VaultSpec(_Part):
    """How often the labels of the test rows may be used."""

    looks: int = Field(
        1,
        ge=1,
        description="So many different models may be scored on the same test rows; each further "
        "one needs `--open-vault` with a reason, and runs without a test score until then.",
    )


Price = Annotated[float, Field(ge=0)] | Annotated[str, Field(min_length=1)]


class CostSpec(_Part):
    """What a wrong answer costs, in any unit: a number, or a column with each row's own price."""

    false_positive: Price = Field(
        description="Cost of a false alarm: a number, or the column that holds it for each row."
    )
    false_negative: Price = Field(
        description="Cost of a missed case: a number, or the column that holds it for each row."
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that prices are read from."""
        prices = (self.false_positive, self.false_negative)
        return tuple(dict.fromkeys(price for price in prices if isinstance(price, str)))

    @property
    def name(self) -> str:
        """How the cost is called among metrics.

        >>> CostSpec(false_positive=1, false_negative="amount").name
        'cost=1,amount'
        """
        prices = (self.false_positive, self.false_negative)
        return "cost=" + ",".join(p if isinstance(p, str) else f"{p:g}" for p in prices)


Share = Annotated[float, BeforeValidator(read_floor), _OR_TEXT]
Duration = Annotated[float, BeforeValidator(read_duration), _OR_TEXT]
Bytes = Annotated[float, BeforeValidator(read_bytes), _OR_TEXT]
Rate = Annotated[float, BeforeValidator(read_rate), _OR_TEXT]
Energy = Annotated[float, BeforeValidator(read_energy), _OR_TEXT]


class RequireSpec(_Part):
    """Floors that must hold on new rows; see docs/choice.md."""

    precision: Share | None = Field(
        None, gt=0, lt=1, description="Precision at least this, such as 0.9 or '>= 0.9'."
    )
    recall: Share | None = Field(
        None, gt=0, lt=1, description="Recall at least this, such as 0.9 or '>= 0.9'."
    )
    confidence: float = Field(
        0.95,
        ge=0.5,
        lt=1,
        description="How sure it shall be that the floors hold on new rows; with 0.5 they may "
        "as well fail.",
    )


class ConstraintSpec(_Part):
    """Limits on the chosen model, each measured where it serves. None is ever relaxed."""

    latency_p50: Duration | None = Field(
        None, gt=0, description="Time of one row, half of the calls: seconds, or `500us`, `5ms`."
    )
    latency_p99: Duration | None = Field(
        None, gt=0, description="Time of one row, 99 % of the calls: seconds, or `500us`, `5ms`."
    )
    throughput: Rate | None = Field(
        None, gt=0, description="Rows a second in batches of 1,000, at least, such as `1000/s`."
    )
    memory: Bytes | None = Field(
        None, gt=0, description="Peak memory of a process that answers, such as `300MB`."
    )
    size: Bytes | None = Field(None, gt=0, description="Size of the model's files, such as `10MB`.")
    train_time: Duration | None = Field(
        None, gt=0, description="Time of the final fit on this machine, such as `10m`."
    )
    energy: Energy | None = Field(
        None,
        gt=0,
        description="Energy of 1,000 rows, one by one, such as `5J`; for machines that tell it.",
    )

    def limits(self) -> Limits:
        """The limits, in seconds, bytes, rows a second and joules."""
        return Limits(**self.model_dump())


class ObjectiveSpec(_Part):
    """What 'better' means."""

    metric: str | None = Field(
        None, description="The metric that ranks candidates (default auc, log_loss or rmse)."
    )
    margin: float = Field(
        0.0, ge=0, description="How much worse, in the metric's unit, a simpler model may be."
    )
    threshold: Literal["f1", "balanced_accuracy", "accuracy"] | None = Field(
        None, description="What the decision threshold maximises (default f1)."
    )
    cost: CostSpec | None = Field(None, description="Prices of wrong answers; sets the threshold.")
    require: RequireSpec | None = Field(
        None, description="Floors for precision and recall that must hold on new rows."
    )


class FeatureSpec(_Part):
    """How columns become numbers, where the families' own recipes shall not decide."""

    scaling: Literal["standard", "robust", "quantile", "none"] | None = Field(
        None, description="Scaling of numbers for linear models (default standard)."
    )
    max_levels: int | None = Field(
        None, ge=2, description="Categories that get a column of their own; the rest share one."
    )
    min_count: int | None = Field(
        None, ge=1, description="Rows that a category needs for a column of its own."
    )
    text_size: int | None = Field(
        None, ge=1, description="Number of hashed columns a text column becomes."
    )


class ParallelSpec(_Part):
    """Several processes of this machine that train each network together."""

    processes: int = Field(
        1, ge=1, le=1024, description="How many; on a machine with GPUs one for each."
    )
    layout: Literal["ddp", "fsdp"] = Field(
        "ddp", description="`ddp` gives each the whole network, `fsdp` shards of it."
    )


class BoardSpec(_Part):
    """Where else the readings of networks' training go, beside the report. Changes no result."""

    tensorboard: str | None = Field(
        None, min_length=1, description="A folder for TensorBoard's event files."
    )
    mlflow: str | None = Field(None, min_length=1, description="A tracking URI of MLflow.")
    wandb: str | None = Field(None, min_length=1, description="A project of Weights & Biases.")

    def given(self) -> dict[str, str]:
        """The boards that are named, by kind."""
        return {name: str(place) for name, place in self.model_dump(exclude_none=True).items()}


class Candidate(_Part):
    """One entry of the race: a family with its parameters."""

    name: str
    family: str
    params: dict[str, Any] = {}


def _candidates(value: Any) -> Any:
    """Accept a name, a list of names or one-entry mappings, or a mapping name: parameters."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if isinstance(value, Mapping):
        value = [{name: params} for name, params in value.items()]
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        return value
    entries: list[Any] = []
    no_params: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for entry in value:
        if isinstance(entry, Candidate):
            entries.append(entry)
            continue
        if isinstance(entry, str):
            family, params = entry, no_params
        elif isinstance(entry, Mapping) and len(entry) == 1:
            ((family, given),) = entry.items()
            params = given or {}
        elif isinstance(entry, Mapping) and {"name", "family"} <= set(entry):
            entries.append(entry)
            continue
        else:
            entries.append(entry)
            continue
        seen[family] = seen.get(family, 0) + 1
        name = family if seen[family] == 1 else f"{family}-{seen[family]}"
        entries.append({"name": name, "family": family, "params": params})
    return entries


Candidates = Annotated[tuple[Candidate, ...], BeforeValidator(_candidates)]


class Spec(_Part):
    """A whole line. See `docs/settings.md` for every key with its default and an example."""

    version: Literal[1] = Field(1, description="The version of this settings format.")
    name: str | None = Field(None, description="The line's name (default: the source's file name).")
    data: DataSpec
    target: str = Field(min_length=1, description="The column to predict.")
    task: Task | None = Field(
        None,
        description="What is predicted; inferred from the target when left out. `multilabel`: "
        "which of several labels a row has, from a column of lists or separated texts; "
        "`language`: the target column's text itself, token by token; `retrieval`: images, found "
        "by the words of the target column.",
    )
    positive: Scalar | None = Field(None, description="For binary tasks: the class of interest.")
    columns: dict[str, ColumnSpec] = Field({}, description="What columns are, by name.")
    clean: dict[str, Literal["report", "repair", "off"]] = Field(
        {}, description="What to do with each kind of finding; see docs/cleaning.md."
    )
    split: SplitSpec = Field(SplitSpec(), description="How rows are divided.")
    vault: VaultSpec = Field(VaultSpec(), description="How often test labels may be used.")
    features: FeatureSpec = Field(FeatureSpec(), description="How columns become numbers.")
    models: Candidates = Field(
        ("baseline", "linear", "lightgbm"),
        validate_default=True,
        description="The candidates; `baseline` always takes part.",
    )
    objective: ObjectiveSpec = Field(ObjectiveSpec(), description="What better means.")
    constraints: ConstraintSpec = Field(
        ConstraintSpec(), description="Limits on the chosen model, measured where it serves."
    )
    select: Literal["simplest", "best"] = Field(
        "simplest",
        description="`simplest` takes the simplest candidate that is not measurably worse than the "
        "best, `best` the best scorer, blends of the others included.",
    )
    calibration: Literal["none", "isotonic", "temperature"] | None = Field(
        None, description="Correction of probabilities, fitted on out-of-fold predictions."
    )
    class_weight: Literal["balanced"] | None = Field(
        None, description="`balanced` weighs each class by the inverse of its share."
    )
    audit: Literal["strict", "repair", "report"] | None = Field(
        None,
        description="What to do about findings that make a score untrue: left out, split and "
        "group what can be, and stop for columns that give the answer away; `repair` leaves "
        "those out as well, `strict` stops for any, `report` only tells.",
    )
    allow_leaks: Names = Field(
        (), description="Columns that look like the answer and shall be used all the same."
    )
    search: SearchSpec | None = Field(
        None, description="A search for the candidates' parameters; left out, none is made."
    )
    budget_seconds: float | None = Field(
        None, gt=0, description="Start no further candidate after this many seconds."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="The root of every random choice.")
    threads: int | None = Field(
        None, ge=1, description="Threads for training (default: all cores of this machine)."
    )
    parallel: ParallelSpec = Field(
        ParallelSpec(), description="Processes for each network of the race."
    )
    boards: BoardSpec = Field(
        BoardSpec(), description="Where else the readings of networks' training go."
    )
    monitor: MonitorSettings = Field(
        MonitorSettings(), description="What `loopline monitor` watches, and its budget."
    )
    alarms: SinkSettings = Field(
        SinkSettings(), description="Who is told of alarms besides the ledger and the terminal."
    )
    loop: LoopSpec = Field(LoopSpec(), description="When `loopline watch` trains it again.")
    store: str = Field(
        ".loopline", min_length=1, description="Folder or URL that keeps everything."
    )
    ledger: str | None = Field(
        None, description="Database URL of the ledger (default: SQLite inside the store)."
    )

    @model_validator(mode="before")
    @classmethod
    def _no_feature(cls, data: Any) -> Any:
        """The end of the label's window is known after the outcome: it gets the role ignore."""
        if not isinstance(data, Mapping):
            return data
        split, columns = data.get("split"), data.get("columns", {})
        name = split.get("label_end") if isinstance(split, Mapping) else None
        if not isinstance(name, str) or not isinstance(columns, Mapping):
            return data
        own = columns.get(name, {})
        if not isinstance(own, Mapping) or own.get("role") is not None:
            return data
        return {**data, "columns": {**columns, name: {**own, "role": "ignore"}}}

    @model_validator(mode="after")
    def _consistent(self) -> Spec:
        problems = list(_contradictions(self))
        if problems:
            raise SettingsError(problems)
        return self

    def digest(self) -> str:
        """Identity of everything that may change a result (not where results are kept)."""
        data = self.model_dump(mode="json", exclude={"store", "ledger", "name", *WATCHED, "boards"})
        data["data"] = {"format": data["data"]["format"], "test": self.data.test is not None}
        data["threads"] = self.num_threads
        return value_digest(data)

    def portable(self) -> dict[str, Any]:
        """The settings as plain data without the places of this machine; for releases."""
        machine = {"store", "ledger", "threads", *WATCHED, "boards"}
        data = self.model_dump(mode="json", exclude=machine, exclude_none=True)
        for role in ("source", "test"):
            if role in data["data"]:
                data["data"][role] = Path(data["data"][role].split("?")[0]).name or role
        data["name"] = self.line_name
        return data

    @property
    def num_threads(self) -> int:
        """Threads to train with."""
        return self.threads or num_cores()

    @property
    def line_name(self) -> str:
        """The line's name, from the source where none is given."""
        if self.name:
            return self.name
        stem = Path(self.data.source.split("?")[0].split("://")[-1]).name
        return stem.split(".")[0].replace("*", "") or "line"

    def role_columns(self, role: str) -> tuple[str, ...]:
        """Columns that the settings give this role."""
        return tuple(name for name, column in self.columns.items() if column.role == role)


def _contradictions(spec: Spec) -> Sequence[str]:
    problems: list[str] = []
    split = spec.split
    targets = [name for name in spec.role_columns("target") if name != spec.target]
    if targets:
        problems.append(
            f"`columns.{targets[0]}.role` is target, but `target` is {spec.target!r}: "
            "a line predicts one column. Remove one of the two."
        )
    own = spec.columns.get(spec.target)
    if own is not None and own.role not in (None, "target"):
        problems.append(
            f"`columns.{spec.target}.role` is {own.role}, but the column is the `target`. "
            "Remove the role."
        )
    if len(spec.role_columns("weight")) > 1:
        problems.append(
            "Only one column may have the role weight, got "
            f"{', '.join(spec.role_columns('weight'))}."
        )
    for name, column in spec.columns.items():
        if column.missing == "constant" and column.fill is None:
            problems.append(
                f"`columns.{name}.missing: constant` needs `columns.{name}.fill`, the constant."
            )
        if column.fill is not None and column.missing != "constant":
            problems.append(
                f"`columns.{name}.fill` has no effect without `missing: constant`. "
                "Add that, or remove `fill`."
            )
        if column.role not in (None, "feature") and column.missing is not None:
            problems.append(
                f"`columns.{name}.missing` has no effect: the column's role is {column.role}."
            )
        if column.separator is not None and (spec.task != "multilabel" or name != spec.target):
            problems.append(
                f"`columns.{name}.separator` has no effect: it parts the labels of the target of a "
                "`task: multilabel`. Remove it."
            )
    if spec.task == "multilabel" and spec.audit == "strict":
        problems.append(
            "`audit: strict` cannot keep its word with `task: multilabel`: columns that give the "
            "answer away, groups and times are not looked for yet. Remove it, and look yourself."
        )
    if spec.task == "multilabel" and own is not None:
        problems += [
            f"`columns.{spec.target}.{field}` has no effect with `task: multilabel`: the column "
            "holds the labels. Remove it."
            for field in ("type", "missing", "map")
            if getattr(own, field) is not None
        ]
    if split.column is not None and split.method != "predefined":
        problems.append(
            f"`split.column` has no effect with `split.method: {split.method}`. "
            "Use `method: predefined`, or remove it."
        )
    if split.method == "predefined" and split.column is None and spec.data.test is None:
        problems.append("`split.method: predefined` needs `split.column` or `data.test`.")
    if spec.data.test is not None:
        if split.test is not None:
            problems.append(
                "`split.test` has no effect: `data.test` names the test rows. Remove one of them."
            )
        if split.column is not None:
            problems.append("`split.column` and `data.test` both name the test rows. Keep one.")
    timeless = split.method in ("random", "stratified", "group", "predefined")
    if split.label_end is not None:
        problems.extend(_window_problems(spec))
        timeless = timeless and split.method != "predefined"
    if split.gap is not None and timeless:
        problems.append(
            f"`split.gap` has no effect with `split.method: {split.method}`: a gap is in time."
        )
    for role, methods in (
        ("time", ("random", "stratified", "group")),
        ("group", ("random", "stratified", "time")),
    ):
        names = spec.role_columns(role)
        if names and split.method in methods and not split.ignore_structure:
            problems.append(
                f"`columns.{names[0]}.role: {role}` contradicts `split.method: {split.method}`, "
                f"which cannot honour it. Give the column another role, or use `method: auto`."
            )
    objective = spec.objective
    ways = [
        name for name in ("threshold", "cost", "require") if getattr(objective, name) is not None
    ]
    if len(ways) > 1:
        problems.append(
            "The decision threshold is set by one of `objective.threshold`, `objective.cost` and "
            f"`objective.require`, got {' and '.join(ways)}. Keep one."
        )
    if objective.cost and (objective.cost.false_positive, objective.cost.false_negative) == (0, 0):
        problems.append("`objective.cost`: at least one of the two prices must be above 0.")
    require = objective.require
    if require is not None and require.precision is None and require.recall is None:
        problems.append("`objective.require` needs `precision`, `recall` or both.")
    limits = spec.constraints
    if (
        limits.latency_p50 is not None
        and limits.latency_p99 is not None
        and limits.latency_p50 >= limits.latency_p99
    ):
        problems.append(
            f"`constraints.latency_p50` of {duration(limits.latency_p50)} has no effect: "
            f"`constraints.latency_p99` allows {duration(limits.latency_p99)} at most for nearly "
            "all calls. Make it smaller, or remove it."
        )
    if limits.memory is not None and limits.size is not None and limits.size >= limits.memory:
        problems.append(
            "`constraints.size` has no effect: a model as large would not fit into "
            "`constraints.memory`. Make it smaller, or remove it."
        )
    if spec.select == "best" and objective.margin > 0:
        problems.append(
            "`objective.margin` has no effect with `select: best`, which takes the best scorer. "
            "Remove one of the two."
        )
    if spec.task is not None and not has_classes(spec.task):
        for value, label in (
            (spec.positive, "positive"),
            (spec.calibration, "calibration"),
            (spec.class_weight, "class_weight"),
            (ways[0] if ways else None, f"objective.{ways[0]}" if ways else ""),
        ):
            if value is not None:
                problems.append(f"`{label}` has no effect with `task: {spec.task}`. Remove it.")
    if spec.task == "multiclass":
        if spec.positive is not None:
            problems.append("`positive` has no effect with `task: multiclass`. Remove it.")
        if ways:
            problems.append(
                f"`objective.{ways[0]}` has no effect with `task: multiclass`, which has no "
                "single threshold. Remove it."
            )
    if objective.metric is not None:
        from loopline.evaluate.metrics import metric

        try:
            metric(objective.metric, spec.task)
        except SettingsError as error:
            problems += [f"`objective.metric`: {problem}" for problem in error.problems]
    if not spec.models:
        problems.append("`models` must name at least one family, got an empty list.")
    problems.extend(_model_problems(spec))
    if spec.search is not None:
        problems.extend(_search_problems(spec, spec.search))
    return problems


def _search_problems(spec: Spec, search: SearchSpec) -> Sequence[str]:
    listed = [(entry.name, entry.family, entry.params) for entry in spec.models]
    problems = search_problems(search, listed, spec.task, listed="models" in spec.model_fields_set)
    if search.budget is not None and spec.budget_seconds is not None:
        problems.append(
            "`budget_seconds` and `search.budget` both limit the time. Keep `search.budget`, which "
            "is the time of the whole run."
        )
    if search.parallel > 1 and spec.parallel.processes > 1:
        problems.append(
            "`search.parallel` trains several networks at a time, `parallel.processes` one network "
            "on several processes. Keep one of the two."
        )
    return problems


def _window_problems(spec: Spec) -> Sequence[str]:
    split, name = spec.split, str(spec.split.label_end)
    problems: list[str] = []
    if split.method in ("random", "stratified", "group"):
        problems.append(
            f"`split.label_end` has no effect with `split.method: {split.method}`: label windows "
            "are in time. Use `method: auto`, or remove it."
        )
    if not spec.role_columns("time"):
        problems.append(
            "`split.label_end` needs the column in which the label's window starts: "
            "`columns: {<name>: {role: time}}`."
        )
    role = "target" if name == spec.target else spec.columns[name].role
    if role not in ("ignore", "id"):
        problems.append(
            f"`columns.{name}.role` is {role}, but `split.label_end` names the column: it is known "
            "only after the outcome. Give it `role: ignore`, or no role."
        )
    return problems


def _model_problems(spec: Spec) -> Sequence[str]:
    from loopline.models.families import FAMILY_NAMES, family

    problems: list[str] = []
    for candidate in spec.models if "models" in spec.model_fields_set else ():
        try:
            kind = family(candidate.family)
        except SettingsError as error:
            problems.extend(f"`models`: {problem}" for problem in error.problems)
            continue
        told: list[str] | None = None
        for task in sorted(kind.tasks) if spec.task is None else [spec.task]:
            try:
                kind.resolve(candidate.params, task, 1000)
            except SettingsError as error:
                told = told or [f"`models.{candidate.name}`: {text}" for text in error.problems]
            else:
                told = None
                break
        problems.extend(told or ())
    kinds = [entry.family for entry in spec.models]
    networks = any(family(name).parallel for name in kinds if name in FAMILY_NAMES)
    for key, given in (
        ("parallel", spec.parallel != ParallelSpec()),
        ("boards", spec.boards != BoardSpec()),
    ):
        if given and not networks:
            problems.append(
                f"`{key}` has no effect: it is for networks, and `models` names "
                f"{', '.join(kinds)}. Add a neural family, or remove it."
            )
    return problems


def make_spec(
    data: Mapping[str, Any], *, where: str = "", lines: Mapping[str, int] | None = None
) -> Spec:
    """Check plain settings and freeze them.

    Args:
        data: the settings as nested mappings, as YAML gives them.
        where: the file's name for messages.
        lines: line number of each dotted key, for messages.

    Raises:
        SettingsError: with every problem at once.
    """
    problems: list[str] = []
    rest: Any = copy.deepcopy(dict(data))
    while True:
        try:
            spec = Spec.model_validate(rest)
        except ValidationError as error:
            problems.extend(
                sentence
                for sentence in sentences(error, Spec, lines or {})
                if sentence not in problems
            )
            rest, changed = _without(rest, [problem["loc"] for problem in error.errors()])
            if _fill_required(rest) or changed:
                continue
        break
    if problems:
        raise SettingsError(problems, where)
    return spec


def _fill_required(data: Any) -> bool:
    """Stand-ins for the required keys, once they were told, so that the rest is checked too."""
    before = copy.deepcopy(data)
    columns = data.get("columns")
    entries = columns.items() if isinstance(columns, Mapping) else ()
    targets = (
        str(name)
        for name, entry in entries
        if isinstance(entry, Mapping) and entry.get("role") == "target"
    )
    data.setdefault("target", next(targets, "?"))
    source = data.setdefault("data", {})
    if isinstance(source, dict):
        source.setdefault("source", "?")
    return bool(data != before)


def _without(data: Any, places: Sequence[tuple[int | str, ...]]) -> tuple[Any, bool]:
    """Leave out the keys that were wrong, so that the rest can be checked too."""
    changed = False
    for place in places:
        node = data
        for part in place[:-1]:
            if isinstance(node, Mapping) and part in node:
                node = node[part]
        for part in reversed(place):
            if isinstance(node, dict) and part in node:
                del node[part]
                changed = True
                break
    return data, changed


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the settings file."""
    schema = Spec.model_json_schema()
    candidate = schema["$defs"].pop("Candidate", None)
    params = {"type": "object", "description": "Parameters of the family."}
    if candidate is not None:
        schema["properties"]["models"] = {
            "description": "The candidates; `baseline` always takes part.",
            "default": ["baseline", "linear", "lightgbm"],
            "anyOf": [
                {"type": "string"},
                {"type": "object", "additionalProperties": {"anyOf": [params, {"type": "null"}]}},
                {
                    "type": "array",
                    "items": {
                        "anyOf": [
                            {"type": "string"},
                            {"type": "object", "maxProperties": 1, "additionalProperties": params},
                        ]
                    },
                },
            ],
        }
    for part in [schema, *schema["$defs"].values()]:
        for name in ("split", "vault", "format", "features", "objective"):
            entry = part.get("properties", {}).get(name)
            if entry is not None:
                entry.pop("default", None)
    for field, alternatives in _names_or_one(schema):
        field["anyOf"] = alternatives
    schema["title"] = "Loopline settings"
    return schema


def _names_or_one(schema: Mapping[str, Any]) -> list[tuple[dict[str, Any], list[Any]]]:
    """A list of names may be written as one name: say so in the schema."""
    found: list[tuple[dict[str, Any], list[Any]]] = []
    parts = [schema, *schema["$defs"].values()]
    for part in parts:
        for entry in part.get("properties", {}).values():
            options = entry.get("anyOf", [entry])
            for option in options:
                if option.get("type") == "array" and option.get("items") == {"type": "string"}:
                    array = {"type": "array", "items": {"type": "string"}}
                    rest = [
                        other for other in options if other is not option and other is not entry
                    ]
                    entry.pop("type", None)
                    entry.pop("items", None)
                    found.append((entry, [array, {"type": "string"}, *rest]))
                    break
    return found
