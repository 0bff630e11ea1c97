"""What cannot work across pods, found before anything is compiled. Each refusal names node, dataset and remedy."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import PurePosixPath

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from kedro_kfp.datasets import METADATA_KEY, DatasetFacts, local_path
from kedro_kfp.group import FAN_OUT, RESOURCES, named_by_tags
from kedro_kfp.settings import KubeflowSettings


@dataclass(frozen=True)
class Draft:
    """A grouped pipeline that is yet to be judged."""

    pipeline: Pipeline
    groups: Mapping[str, list[Node]]
    facts: Mapping[str, DatasetFacts]
    settings: KubeflowSettings
    elsewhere: Set[str] = frozenset()
    """Steps of the project's other pipelines, of which kubeflow.yml may speak too."""

    @cached_property
    def step_of(self) -> dict[str, str]:
        """Node's name to its step's."""
        return {node.name: step for step, nodes in self.groups.items() for node in nodes}

    @cached_property
    def maker_of(self) -> dict[str, Node]:
        """Dataset (without transcoding) to the node that writes it."""
        return {_plain(output): node for node in self.pipeline.nodes for output in node.outputs}

    def needs_of(self, step: str) -> set[str]:
        """Steps that must be done before."""
        parents = {parent for node in self.groups[step] for parent in self.pipeline.node_dependencies[node]}
        return {self.step_of[parent.name] for parent in parents} - {step}

    def loops(self, step: str) -> set[str]:
        """Lists that the step's nodes are tagged to fan out over."""
        return named_by_tags(self.groups[step], FAN_OUT)

    def lists_of(self, nodes: Sequence[Node]) -> Iterator[tuple[str, str]]:
        """For each list that the nodes fan out over: the list, and the step that writes it."""
        for over in sorted(named_by_tags(nodes, FAN_OUT)):
            if over in self.maker_of:
                yield over, self.step_of[self.maker_of[over].name]

    def cycle(self, steps: Sequence[str]) -> str:
        """The refusal of steps that wait for each other; graphlib's cycle runs against the flow."""
        way = list(reversed(steps))
        passed = [
            f"{name!r} from node {self.maker_of[name].name!r} ({before}) to node {node.name!r} ({after})"
            for before, after in pairwise(way)
            for node in self.groups[after]
            for name in sorted({_plain(given) for given in node.inputs} & self.maker_of.keys())
            if self.step_of[self.maker_of[name].name] == before
        ]
        return (
            f"the steps {' > '.join(way)} wait for each other: dataset {', dataset '.join(passed)}. "
            "Next: split one of the groups, or put all these nodes into one."
        )


def all_refusals(draft: Draft) -> list[str]:
    """Every refusal but that of a cycle."""
    checks = (_in_memory, _fan_outs, _lists, _shared_outputs, _profiles, _places)
    return [refusal for check in checks for refusal in check(draft)]


def _plain(dataset: str) -> str:
    return dataset.partition("@")[0]  # as Kedro transcodes: one dataset under two types


def _in_memory(draft: Draft) -> Iterator[str]:
    for node in draft.pipeline.nodes:
        for given in node.inputs:
            maker = draft.maker_of.get(_plain(given))
            if maker is None or not draft.facts[given].in_memory:
                continue
            before, after = draft.step_of[maker.name], draft.step_of[node.name]
            if before != after:
                yield (
                    f"dataset {given!r} is in memory only, and goes from node {maker.name!r} (step {before}) to node "
                    f"{node.name!r} (step {after}), another pod. Next: give it an entry in the catalog, or give both "
                    "nodes one group.* tag."
                )


def _fan_outs(draft: Draft) -> Iterator[str]:
    for step, nodes in draft.groups.items():
        wanted = [named_by_tags([node], FAN_OUT) for node in nodes]
        over = set().union(*wanted)
        if not over:
            continue
        if len(over) > 1 or any(one != over for one in wanted):
            tagged = {node.name: sorted(one) for node, one in zip(nodes, wanted, strict=True)}
            yield (
                f"step {step!r}: its nodes fan out over different lists, {tagged}; allowed is the same one for all. "
                "Next: give the nodes the same fanout.* tag, or different group.* tags."
            )
            continue
        yield from _one_fan_out(draft, step, nodes, next(iter(over)))


def _one_fan_out(draft: Draft, step: str, nodes: list[Node], over: str) -> Iterator[str]:
    settings = draft.settings.fan_outs.get(over)
    if over not in draft.maker_of:
        yield (
            f"step {step!r} (node {nodes[0].name!r}) fans out over dataset {over!r}, which no node of this pipeline "
            "writes. Next: let an earlier step write the list, or correct the fanout.* tag."
        )
    elif draft.step_of[draft.maker_of[over].name] == step:
        yield (
            f"step {step!r} fans out over dataset {over!r}, which its own node {draft.maker_of[over].name!r} writes. "
            "Next: give that node another group.* tag."
        )
    if settings is None:
        yield (
            f"step {step!r} (node {nodes[0].name!r}) fans out over dataset {over!r}, which kubeflow.yml does not know; "
            f"known are {sorted(draft.settings.fan_outs)}. Next: add fan_outs.{over}, or correct the fanout.* tag."
        )
    elif not any(_reads(node, settings.parameter) for node in nodes):
        yield (
            f"step {step!r}: no node reads params:{settings.parameter}, so that each task of the fan-out over "
            f"{over!r} would do the work of all. Next: make it an input of node {nodes[0].name!r}."
        )


def _reads(node: Node, parameter: str) -> bool:
    parts = parameter.split(".")
    above = {"params:" + ".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return bool({"parameters", *above} & set(node.inputs))


def _lists(draft: Draft) -> Iterator[str]:
    written: dict[str, set[str]] = {}
    for nodes in draft.groups.values():
        for over, source in draft.lists_of(nodes):
            written.setdefault(source, set()).add(over)
    for step, lists in written.items():
        if len(lists) > 1:
            makers = {over: draft.maker_of[over].name for over in sorted(lists)}
            yield (
                f"step {step!r} writes two lists to fan out over, {makers} (dataset: node); allowed is one a step. "
                "Next: give the nodes different group.* tags."
            )
        if draft.loops(step) - lists:
            yield (
                f"step {step!r} fans out over {sorted(draft.loops(step))} and writes the list {sorted(lists)} itself, "
                "once a task. Next: let a step without fan-out write it."
            )


def _shared_outputs(draft: Draft) -> Iterator[str]:
    for step, nodes in draft.groups.items():
        for node in nodes if draft.loops(step) else ():
            for output in node.outputs:
                facts = draft.facts[output]
                if facts.replaces_siblings:
                    yield (
                        f"dataset {output!r} has overwrite: true, so that each task of node {node.name!r} would delete "
                        "what the others wrote. Next: set overwrite to false."
                    )
                elif not facts.sharded and not facts.in_memory:
                    yield (
                        f"dataset {output!r} is one file, and every task of node {node.name!r} would write it. Next: "
                        "make it a PartitionedDataset with a part an item; or, where its type keeps items apart, say "
                        f"so: metadata: {{{METADATA_KEY}: {{sharded: true}}}}."
                    )


def _profiles(draft: Draft) -> Iterator[str]:
    known = sorted(draft.settings.profiles)
    for name, wishes in draft.settings.steps.items():
        if name not in draft.groups.keys() | draft.elsewhere:
            allowed = sorted(draft.groups.keys() | draft.elsewhere)
            yield f"steps.{name}: no pipeline has such a step; allowed are {allowed}. Next: correct the name."
        if wishes.profile is not None and wishes.profile not in known:
            yield f"steps.{name}.profile: {wishes.profile!r} is unknown; allowed are {known}. Next: add the profile."
    for profile in sorted(named_by_tags(draft.pipeline.nodes, RESOURCES) - set(known)):
        askers = [node.name for node in draft.pipeline.nodes if RESOURCES + profile in node.tags]
        yield (
            f"the nodes {askers} ask for the resource profile {profile!r}, which kubeflow.yml does not have; allowed "
            f"are {known}. Next: add profiles.{profile}, or correct the tag {RESOURCES}{profile}."
        )
    for step, nodes in draft.groups.items():
        wanted = sorted(named_by_tags(nodes, RESOURCES))
        own = draft.settings.steps.get(step)
        if len(wanted) > 1 and not (own and own.profile):
            yield f"step {step!r}: its nodes ask for the profiles {wanted}. Next: choose one in steps.{step}.profile."


def _places(draft: Draft) -> Iterator[str]:
    for name in sorted(draft.facts):
        if draft.facts[name].has_password:
            yield (
                f"dataset {name!r} lies at a URL with a user and a password, which every log would repeat. Next: leave "
                "them out; the store's client finds them in the environment."
            )
    settings, written = draft.settings, {_plain(name) for name in draft.maker_of}
    mounts = [volume.mount_path for volume in settings.volumes]
    carried = [posixpath.join(settings.project_path, path) for path in settings.image_paths]
    carried += [files.mount_path for files in settings.secret_files]
    for what, path, read_only in _local_paths(draft, written):
        place = posixpath.normpath(posixpath.join(settings.project_path, path))
        if not _under(place, mounts) and not (read_only and _under(place, carried)):
            yield (
                f"{what} lies at {place}, which is lost with the pod: allowed are URLs, volumes "
                f"({', '.join(mounts) or 'none is set'}) and, to read, {', '.join(carried)}. "
                "Next: move it in the environment's configuration, or mount a volume there."
            )


def _local_paths(draft: Draft, written: set[str]) -> Iterator[tuple[str, str, bool]]:
    """What lies at a local path, the path, and whether steps only read it."""
    for name in sorted(draft.facts):
        user = draft.maker_of.get(_plain(name)) or next(node for node in draft.pipeline.nodes if name in node.inputs)
        for path in draft.facts[name].local_paths:
            yield f"dataset {name!r} of node {user.name!r}", path, _plain(name) not in written
    folder = draft.settings.run.outcome_folder
    if folder is not None and (place := local_path(folder)):
        yield "run.outcome_folder", place, False


def _under(place: str, folders: Sequence[str]) -> bool:
    return any(PurePosixPath(place).is_relative_to(folder) for folder in folders)
