"""Kedro's settings. Values a person may change are in conf/, not here."""

import warnings

from pipelines.hooks import RunHooks

# kedro 1.7 registers its resolvers in a way that omegaconf 2.4 calls deprecated: nothing a user could act on
warnings.filterwarnings("ignore", category=UserWarning, module="kedro.config.omegaconf_config")

HOOKS = (RunHooks(),)
# no telemetry, and no import of the viewer in a run that draws nothing
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-telemetry", "kedro-viz")
# soft: an environment, or --params with one, changes the values it names; the rest of a block stays as it is in base
CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "local", "merge_strategy": {"parameters": "soft"}}
