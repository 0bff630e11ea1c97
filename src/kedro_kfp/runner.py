"""Kedro's sequential runner, which knows at any time the node at work."""

from __future__ import annotations

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner
from pluggy import PluginManager


class StepRunner(SequentialRunner):
    """Runs nodes one after another; `at_work` is the node that loads, computes or saves, or did so last."""

    at_work: Node | None = None

    def run(
        self,
        pipeline: Pipeline,
        catalog: Any,
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
        only_missing_outputs: bool = False,
    ) -> dict[str, Any]:
        """As Kedro's runner, listening to the run's own hooks."""
        if hook_manager is not None:
            hook_manager.register(self)
        return super().run(pipeline, catalog, hook_manager, run_id, only_missing_outputs)

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """Kedro's hook, first in a node's life."""
        self.at_work = node

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Kedro's hook, for nodes that load nothing."""
        self.at_work = node
