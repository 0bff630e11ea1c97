"""From a pipeline to steps: what each pod runs, what it waits for, what it fans out over, what it is given.

A plan is plain data and knows no kfp. Everything that cannot work across pods is refused here, all at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from kedro_kfp import refusals
from kedro_kfp.datasets import DatasetFacts
from kedro_kfp.errors import PlanError
from kedro_kfp.group import FAN_OUT, RESOURCES, group_nodes, named_by_tags
from kedro_kfp.profiles import Profile
from kedro_kfp.settings import Artifact, FanOut, KubeflowSettings


@dataclass(frozen=True)
class Loop:
    """One task an item of the list in dataset `over`, which the step `source` writes."""

    over: str
    source: str
    settings: FanOut


@dataclass(frozen=True)
class Step:
    """What one pod runs, or one pod an item."""

    name: str
    nodes: tuple[str, ...]
    needs: tuple[str, ...]
    loop: Loop | None
    lists: str | None
    profile: Profile
    artifacts: Mapping[str, Artifact]


@dataclass(frozen=True)
class Plan:
    """Steps in an order in which they can run."""

    pipeline: str
    steps: tuple[Step, ...]

    def flags(self, step: Step) -> list[str]:
        """What tells `kedro_kfp.step` which nodes to run."""
        return ["--step", step.name, "--pipeline", self.pipeline, "--nodes", ",".join(step.nodes)]

    def describe(self) -> str:
        """For people: a line a step."""
        return "\n".join(_line(step) for step in self.steps)


def make_plan(
    name: str,
    pipeline: Pipeline,
    facts: Mapping[str, DatasetFacts],
    settings: KubeflowSettings,
    elsewhere: Set[str] = frozenset(),
) -> Plan:
    """The plan of one registered pipeline. `PlanError` with every reason why there is none.

    `elsewhere` are the steps of the project's other pipelines: kubeflow.yml is one for all.
    """
    groups, found = group_nodes(pipeline, settings.group_by)
    draft = refusals.Draft(pipeline, groups, facts, settings, elsewhere)
    found += refusals.all_refusals(draft)
    lists = {over: source for group in groups.values() for over, source in draft.lists_of(group)}
    sources = {step: {lists[over] for over in draft.loops(step) & lists.keys()} for step in groups}
    needs = {step: (draft.needs_of(step) | sources[step]) - {step} for step in groups}
    try:
        order = list(TopologicalSorter({step: sorted(needs[step]) for step in groups}).static_order())
    except CycleError as error:
        raise PlanError(name, [*found, draft.cycle(error.args[1])]) from error
    if found:
        raise PlanError(name, found)
    steps = tuple(_step(step, groups[step], needs[step], lists, settings) for step in order)
    return Plan(pipeline=name, steps=steps)


def _step(name: str, nodes: list[Node], needs: set[str], lists: Mapping[str, str], settings: KubeflowSettings) -> Step:
    over = next(iter(named_by_tags(nodes, FAN_OUT)), None)
    outputs = {output for node in nodes for output in node.outputs}
    return Step(
        name=name,
        nodes=tuple(node.name for node in nodes),
        needs=tuple(sorted(needs)),
        loop=Loop(over, lists[over], settings.fan_outs[over]) if over else None,
        lists=next((dataset for dataset in lists if dataset in outputs), None),
        profile=_profile(name, nodes, settings),
        artifacts={dataset: shown for dataset, shown in settings.artifacts.items() if dataset in outputs},
    )


def _profile(name: str, nodes: list[Node], settings: KubeflowSettings) -> Profile:
    own = settings.steps.get(name)
    named = (own.profile if own else None) or next(iter(named_by_tags(nodes, RESOURCES)), "default")
    profile = settings.profile_named(named)
    return profile.with_changes(own) if own else profile


def _line(step: Step) -> str:
    given = step.profile
    parts = [f"{step.name}: {', '.join(step.nodes)}"]
    if step.loop:
        parts.append(f"one task for each of {step.loop.over}, {step.loop.settings.parallelism} at a time")
    devices = f", {given.accelerator.count} {given.accelerator.type}" if given.accelerator else ""
    parts.append(f"{given.cpu} CPU, {given.memory}{devices}, {given.retry.attempts} retries")
    if step.needs:
        parts.append(f"after {', '.join(step.needs)}")
    return "; ".join(parts)
