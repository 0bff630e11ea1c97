"""The Kedro project: settings, registry, hooks, and one folder a pipeline."""
