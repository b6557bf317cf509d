"""Where an artifact comes from and what was made of it: the chain in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loopline.errors import NotFoundError
from loopline.store.artifacts import Artifact, Store


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
    everything = [store.get(name) for name in store.ids()]
    found: dict[str, Node] = {}
    wave = {root.id}
    while wave:
        made = {
            artifact.id: artifact
            for artifact in everything
            if wave & set(artifact.inputs.values()) and artifact.id not in found
        }
        found |= {name: _node(artifact) for name, artifact in sorted(made.items())}
        wave = set(made)
    return Lineage(root.id, tuple(ancestors.values()), tuple(found.values()), tuple(missing))


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
