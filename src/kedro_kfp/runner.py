"""Kedro's sequential runner, which knows at any time how far it got: no node, a node at work, or all done."""

from __future__ import annotations

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner
from pluggy import PluginManager


class StepRunner(SequentialRunner):
    """Runs nodes one after another, and knows how far it got once it is registered with the session's hooks."""

    begun = False
    """Whether the project is loaded, and its hooks are told that the run begins."""
    entered = False
    """Whether these hooks are done."""
    at_work: Node | None = None
    """The node that loads, computes or saves."""
    finished = False
    """Whether all nodes are done."""

    def run(
        self,
        pipeline: Pipeline,
        catalog: Any,
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
        only_missing_outputs: bool = False,
    ) -> dict[str, Any]:
        """As Kedro's runner."""
        self.entered = True
        outputs = super().run(pipeline, catalog, hook_manager, run_id, only_missing_outputs)
        self.at_work, self.finished = None, True
        return outputs

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self) -> None:
        """Kedro's hook, before those of the project."""
        self.begun = True

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """Kedro's hook, first in a node's life."""
        self.at_work = node

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Kedro's hook, for nodes that load nothing."""
        self.at_work = node
