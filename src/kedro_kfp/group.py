"""Which nodes run together in one pod: by tag `group.NAME`, by namespace, or each alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

GROUP, RESOURCES, FAN_OUT = "group.", "res.", "fanout."
_MAX_NAME = 50  # a pod's name adds the run's and an attempt's, and stays below 63


def named_by_tags(nodes: Iterable[Node], prefix: str) -> set[str]:
    """What the nodes' tags of one kind name: `{"search"}` for `group.search`."""
    return {tag.removeprefix(prefix) for node in nodes for tag in node.tags if tag.startswith(prefix)}


def group_nodes(pipeline: Pipeline, group_by: Literal["node", "namespace"]) -> tuple[dict[str, list[Node]], list[str]]:
    """Nodes by the name of their step, in the order they run; and what cannot be grouped."""
    groups: dict[str, list[Node]] = {}
    wanted: dict[str, set[str]] = {}
    refusals: list[str] = []
    for node in pipeline.nodes:
        tags = sorted(named_by_tags([node], GROUP))
        if len(tags) > 1:
            refusals.append(
                f"node {node.name!r} has the tags {[GROUP + tag for tag in tags]}; allowed is one. "
                "Next: keep the tag of the step it belongs to."
            )
        raw = tags[0] if tags else _own_group(node, group_by)
        groups.setdefault(step_name(raw), []).append(node)
        wanted.setdefault(step_name(raw), set()).add(raw)
    refusals += _collisions(wanted)
    return groups, refusals


def step_name(text: str) -> str:
    """A name that Kubernetes takes: lower case, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_MAX_NAME].strip("-")


def _own_group(node: Node, group_by: Literal["node", "namespace"]) -> str:
    if group_by == "namespace" and node.namespace:
        return node.namespace.split(".")[0]
    return str(node.name)


def _collisions(wanted: dict[str, set[str]]) -> Iterator[str]:
    for name, raw in wanted.items():
        if len(raw) > 1:
            yield (
                f"the groups {sorted(raw)} would both be the step {name!r}: Kubernetes names are lower case, hyphened, "
                f"and at most {_MAX_NAME} long here. Next: rename one."
            )
