"""The Kubeflow API through kfp's client: upload, run, wait, schedule, list."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kedro_kfp.compiled import Compiled
from kedro_kfp.errors import LostSightError, RunError, SettingsError, UnansweredError
from kedro_kfp.extra import kfp_module
from kedro_kfp.settings import Client, KubeflowSettings

_ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
_PAGE = 100
_TOO_MANY, _SERVER_ERRORS = 429, 500
_PATIENCE = 600.0  # an API server that is moved or replaced is back by then


class Cluster:
    """One Kubeflow installation, as kubeflow.yml and the environment's credentials describe it."""

    def __init__(self, settings: KubeflowSettings) -> None:
        self._settings = settings
        client = kfp_module("kfp.client", "talking to Kubeflow")
        with _answered(settings.client), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that the client is one of KFP v2
            self._client = client.Client(**client_arguments(settings.client))

    def upload(self, compiled: Compiled, version: str | None) -> tuple[str, str, bool]:
        """Store the file as a version of the pipeline. Its ids, and whether it was not there before.

        Without a name, a version is called after the file's content, so that the same file is stored once.
        """
        name = version or content_version(compiled.file)
        with _answered(self._settings.client):
            description, namespace = self._settings.description, self._settings.client.user_namespace
            there = _pages(self._client.list_pipelines, "pipelines", namespace=namespace)
            pipeline = next((one.pipeline_id for one in there if one.display_name == compiled.name), None)
            if pipeline is None:
                pipeline = self._client.upload_pipeline(
                    str(compiled.file), compiled.name, description, namespace
                ).pipeline_id
            for known in _pages(self._client.list_pipeline_versions, "pipeline_versions", pipeline_id=pipeline):
                if known.display_name == name:
                    return pipeline, known.pipeline_version_id, False
            stored = self._client.upload_pipeline_version(str(compiled.file), name, pipeline_id=pipeline)
            return pipeline, stored.pipeline_version_id, True

    def start(self, compiled: Compiled, name: str, arguments: Mapping[str, str]) -> str:
        """Start one run of the file; its id."""
        with _answered(self._settings.client):
            run = self._client.run_pipeline(
                self._experiment(),
                name,
                pipeline_package_path=str(compiled.file),
                params=dict(arguments),
                service_account=self._settings.service_account,
            )
            return str(run.run_id)

    def wait(
        self, run: str, timeout_seconds: float, poll_seconds: float = 10, patience_seconds: float = _PATIENCE
    ) -> str:
        """The state in which the run ended.

        `LostSightError` when it has not ended in time, or when nobody has answered for `patience_seconds`. kfp's own
        waiting never returns from a run that somebody cancels.
        """
        answered = time.monotonic()
        deadline, state = answered + timeout_seconds, "PENDING"
        while True:
            try:
                with _answered(self._settings.client):
                    state = str(self._client.get_run(run).state or "PENDING")
                answered = time.monotonic()
            except RunError as error:
                patient = isinstance(error, UnansweredError) and time.monotonic() - answered < patience_seconds
                if not patient:
                    raise LostSightError(f"run {run} goes on, and was last {state}: {error}") from error
            if state.upper() in _ENDED:
                return state.upper()
            if time.monotonic() > deadline:
                raise LostSightError(
                    f"run {run} is still {state} after {timeout_seconds:g} s, and goes on. Next: look at the pages."
                )
            time.sleep(poll_seconds)

    def schedule(
        self, compiled: Compiled, name: str, cron: str, arguments: Mapping[str, str], replace: bool
    ) -> tuple[str, list[str]]:
        """Run the file whenever `cron` says; the schedule's id, and those of the ones it replaces.

        One run at a time, and none for times that were missed. `RunError` where a schedule of that name exists and is
        not to be replaced: two schedules would run everything twice.
        """
        with _answered(self._settings.client):
            experiment = self._experiment()
            known = _pages(self._client.list_recurring_runs, "recurring_runs", experiment_id=experiment)
            old = [one.recurring_run_id for one in known if one.display_name == name]
            if old and not replace:
                raise RunError(
                    f"there is a schedule {name!r} already ({', '.join(old)}). Next: --replace, or another --name."
                )
            made = self._client.create_recurring_run(
                experiment,
                name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                params=dict(arguments),
                pipeline_package_path=str(compiled.file),
                service_account=self._settings.service_account,
            )
            for one in old:
                self._client.delete_recurring_run(one)
            return str(made.recurring_run_id), old

    def listing(self, what: str) -> Iterator[tuple[str, str, str]]:
        """Id, name and state of all pipelines (for these, when they were made), runs or schedules."""
        namespace = self._settings.client.user_namespace
        with _answered(self._settings.client):
            if what == "pipelines":
                for one in _pages(self._client.list_pipelines, "pipelines", namespace=namespace):
                    yield one.pipeline_id, one.display_name, str(one.created_at or "")
            elif what == "runs":
                for one in _pages(self._client.list_runs, "runs", experiment_id=self._experiment()):
                    yield one.run_id, one.display_name, str(one.state or "")
            else:
                for one in _pages(self._client.list_recurring_runs, "recurring_runs", experiment_id=self._experiment()):
                    yield one.recurring_run_id, one.display_name, str(one.status or "")

    def _experiment(self) -> str:
        run, namespace = self._settings.run, self._settings.client.user_namespace
        return str(self._client.create_experiment(run.experiment, namespace=namespace).experiment_id)


def client_arguments(client: Client) -> dict[str, Any]:
    """kfp.Client's arguments. `SettingsError` where an environment variable with a credential is not set."""
    return {
        "host": client.host,
        "ui_host": client.ui_host,
        "namespace": client.namespace,
        "kube_context": client.kube_context,
        "proxy": client.proxy,
        "ssl_ca_cert": client.ca_file,
        "verify_ssl": client.verify_tls,
        "client_id": client.iap_client_id,
        "existing_token": _credential(client.token_variable, "token_variable"),
        "cookies": _credential(client.cookies_variable, "cookies_variable"),
    }


def content_version(file: Path) -> str:
    """A version's name after what the file holds."""
    return f"sha256-{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"


def ui_address(client: Client) -> str:
    """The address of Kubeflow's pages. `SettingsError` where kubeflow.yml has none."""
    host = client.ui_host or client.host or os.environ.get("KF_PIPELINES_UI_ENDPOINT")
    if not host:
        raise SettingsError("client.host and client.ui_host are not set. Next: set one in kubeflow.yml.")
    return host if host.startswith("http") else f"https://{host}"


def six_fields(cron: str) -> str:
    """A cron expression with seconds, as Kubeflow wants it; five fields get the second 0."""
    fields = cron.split()
    if len(fields) not in (5, 6):
        raise SettingsError(
            f"--cron {cron!r} has {len(fields)} fields; allowed are 5 (minute hour day month weekday) or 6 (seconds "
            "before). Next: write '0 3 * * *' for three in the morning."
        )
    return " ".join(["0", *fields] if len(fields) == 5 else fields)


def _credential(variable: str | None, field: str) -> str | None:
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise SettingsError(f"client.{field} names {variable!r}, which is not set. Next: export {variable}=…")
    return os.environ[variable]


def _pages(ask: Callable[..., Any], key: str, **arguments: Any) -> Iterator[Any]:
    token = ""
    while True:
        answer = ask(page_token=token, page_size=_PAGE, **arguments)
        yield from getattr(answer, key) or []
        token = answer.next_page_token or ""
        if not token:
            return


@contextmanager
def _answered(client: Client) -> Iterator[None]:
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    where = client.host or "the API that the kfp client found"
    try:
        yield
    except ApiException as error:
        later = error.status == _TOO_MANY or (error.status or 0) >= _SERVER_ERRORS
        kind = UnansweredError if later else RunError
        raise kind(f"{where} answered {error.status} {error.reason}: {error.body}") from error
    except (HTTPError, OSError) as error:
        raise UnansweredError(
            f"{where} does not answer: {error}. Next: check client.host, or forward its port."
        ) from error
