"""A Kedro project's pipelines as Kubeflow Pipelines v2. Knows Kedro and KFP, and no project."""
