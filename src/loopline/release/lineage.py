"""Where an artifact comes from and what was made of it: the chain in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loopline.errors import IntegrityError, NotFoundError
from loopline.store.artifacts import Artifact, Store
from loopline.store.disk import write_whole
from loopline.store.manifest import seal, split_id, unseal

NAMED_BY_CONTENT = ("snapshot",)
"""Kinds whose id says nothing of what they were made from."""


@dataclass(frozen=True)
class Node:
    """One artifact in a lineage.

    Args:
        id: the artifact's id.
        kind: snapshot, split, model, …
        inputs: role and id of each artifact it was made from.
        remark: a few words on what it is.
    """

    id: str
    kind: str
    inputs: Mapping[str, str]
    remark: str


@dataclass(frozen=True)
class Lineage:
    """The ancestors and descendants of one artifact.

    Args:
        root: the artifact that was asked for.
        ancestors: what it was made from, nearest first, the artifact itself included.
        descendants: what was made from it, nearest first.
        missing: ids that are named but are no longer in the store.
    """

    root: str
    ancestors: tuple[Node, ...]
    descendants: tuple[Node, ...]
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""

        def plain(node: Node) -> dict[str, Any]:
            return {
                "id": node.id,
                "kind": node.kind,
                "inputs": dict(node.inputs),
                "remark": node.remark,
            }

        return {
            "root": self.root,
            "ancestors": [plain(node) for node in self.ancestors],
            "descendants": [plain(node) for node in self.descendants],
            "missing": list(self.missing),
        }

    def chain(self) -> str:
        """The way from the source to the artifact, one line a stage, no other candidates."""
        order = ("source", "snapshot", "plan", "split", "choice", "model", "evaluation", "release")
        found = [
            node
            for kind in order
            for node in reversed(self.ancestors)
            if node.kind == kind and node.id != self.root
        ]
        root = next(node for node in self.ancestors if node.id == self.root)
        lines = [
            f"{node.kind:<11}{node.id[:24]}…  {node.remark}".rstrip() for node in (*found, root)
        ]
        rest = len(self.ancestors) - len(found) - 1
        if rest:
            lines.append(f"and {rest} more it was made from (`--all` shows the whole tree)")
        lines += [
            f"made from it: {node.id[:24]}…  {node.remark}".rstrip() for node in self.descendants
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        nodes = {node.id: node for node in self.ancestors}
        lines: list[str] = []
        shown: set[str] = set()

        def show(name: str, role: str, depth: int) -> None:
            node = nodes.get(name)
            indent = "  " * depth
            label = f"{role}: " if role else ""
            if node is None:
                lines.append(f"{indent}{label}{name[:24]}… (no longer in the store)")
                return
            again = name in shown
            more = " (shown above)" if again and node.inputs else ""
            remark = f"  {node.remark}" if node.remark and not again else ""
            lines.append(f"{indent}{label}{name[:24]}…{remark}{more}")
            if again:
                return
            shown.add(name)
            folds = [each for role, each in node.inputs.items() if role.startswith("fold")]
            for input_role, input_name in node.inputs.items():
                if input_name not in folds:
                    show(input_name, input_role, depth + 1)
            if folds:
                lines.append(f"{'  ' * (depth + 1)}{len(folds)} fold fits, the first:")
                show(folds[0], "", depth + 2)

        show(self.root, "", 0)
        if self.descendants:
            lines.append("made from it:")
            lines += [f"  {node.id[:24]}…  {node.remark}".rstrip() for node in self.descendants]
        return "\n".join(lines)


def lineage(store: Store, artifact_id: str) -> Lineage:
    """Follow an artifact to its sources and to everything that was made of it."""
    root = store.get(artifact_id)
    ancestors: dict[str, Node] = {}
    missing: list[str] = []
    queue = [root]
    while queue:
        artifact = queue.pop(0)
        if artifact.id in ancestors:
            continue
        ancestors[artifact.id] = _node(artifact)
        for name in artifact.inputs.values():
            try:
                queue.append(store.get(name))
            except NotFoundError:
                if name not in missing:
                    missing.append(name)
    users = _users(store)
    found: dict[str, Node] = {}
    wave = {root.id}
    while wave:
        made = {name for used in wave for name in users.get(used, ()) if name not in found}
        for name in sorted(made):
            with suppress(NotFoundError):
                found[name] = _node(store.get(name))
        wave = made & found.keys()
    return Lineage(root.id, tuple(ancestors.values()), tuple(found.values()), tuple(missing))


def _users(store: Store) -> dict[str, list[str]]:
    """For each artifact, those that were made from it.

    A manifest is read once in a store's life: what an id was made from never changes, except where
    the id tells of the content alone. What is remembered can be made again, so a damaged memory,
    or one that cannot be written, costs time and nothing else.
    """
    memory = store.scratch("lineage") / "inputs.json"
    known: dict[str, list[str]] = {}
    with suppress(OSError, IntegrityError):
        known = unseal(memory.read_bytes(), str(memory))["inputs"]
    ids = store.ids()
    inputs: dict[str, list[str]] = {}
    for name in ids:
        if name in known and split_id(name)[0] not in NAMED_BY_CONTENT:
            inputs[name] = known[name]
            continue
        with suppress(NotFoundError):
            inputs[name] = sorted(store.inputs(name).values())
    if inputs != known:
        with suppress(OSError):
            write_whole(memory, seal({"inputs": inputs}), memory.parent)
    users: dict[str, list[str]] = {}
    for name, used in inputs.items():
        for each in used:
            users.setdefault(each, []).append(name)
    return users


def _node(artifact: Artifact) -> Node:
    return Node(artifact.id, artifact.kind, dict(artifact.inputs), _remark(artifact))


def _remark(artifact: Artifact) -> str:
    meta = artifact.meta
    if artifact.kind == "snapshot":
        return f"{meta['num_rows']:,} rows × {len(meta['columns'])} columns"
    if artifact.kind == "split":
        certificate = meta["certificate"]
        return f"{certificate['num_train']:,} train, {certificate['num_test']:,} test rows"
    if artifact.kind == "candidate":
        return str(meta["name"])
    if artifact.kind == "foldfit":
        return f"{meta['candidate']}, fold {meta['fold'] + 1}"
    if artifact.kind == "choice":
        return f"chose {meta['chosen']}"
    if artifact.kind == "model":
        return str(meta["family"])
    if artifact.kind == "evaluation":
        return f"on {meta['num_rows']:,} test rows"
    return ""
