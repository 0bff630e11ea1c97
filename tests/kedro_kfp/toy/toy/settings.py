DISABLE_HOOKS_FOR_PLUGINS = ("kedro-telemetry", "kedro-viz")
