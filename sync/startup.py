"""From nothing to a running, connected stack, and from there to images with pre-labels that wait for people."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labels.config import LabelConfig
from labels.errors import LabelingError, ServiceError
from labels.report import OnProgress, Report
from ml_backend.environment import Environment
from ml_backend.models.weights import check_weights
from ml_backend.serving.swapped import forget_swapped
from sync.backend import ServedWeights
from sync.jobs.context import SERVICE_VARIABLES, Context, Services, connect_backend, open_context, set_database
from sync.jobs.registry import LONG_JOBS, call_job
from sync.ledger import Ledger
from sync.runs.live_run import LiveRun
from sync.runs.lock import hold_project_lock
from sync.services.bootstrap import bootstrap
from sync.services.label_config_check import check_catalogue_keeps_its_classes
from sync.services.programs import StackSettings
from sync.services.stack import Stack
from sync.services.stack_record import Addresses
from sync.settings import DEFAULT_ADMIN_EMAIL, Home, Project, find_label_config, read_label_config

OnEvent = Callable[[str], None]
Watch = Callable[[], AbstractContextManager[OnProgress]]
"""Opens something that shows the progress of one job."""


@dataclass(frozen=True, slots=True)
class Started:
    """A stack that runs and is connected; ``tasks_url`` opens the tasks with the most uncertain first."""

    stack: Stack
    addresses: Addresses
    project: Project
    tasks_url: str
    admin_email: str
    weights: ServedWeights


def choose_project(home: Home, *, name: str | None, model: str | None, annotators: str | None = None) -> Project:
    """Return the home's project with what was asked for, made where there is none yet; None: as it is.

    Raises:
        LabelingError: the home holds another project, or the model is a path where nothing is.
    """
    present = Project.read(home)
    model = None if model is None else _to_known_model(model)
    if present is not None and name is not None and name != present.name:
        raise LabelingError(
            f"{home.path} holds the project {present.name!r}; use another --home or start anew: labelloop reset"
        )
    project = present or Project(name=name or "labelloop")
    return replace(project, model=model or project.model, annotators=annotators or project.annotators)


def check_model(home: Home, project: Project, *, is_chosen: bool) -> None:
    """Look for the weights before anything starts; a model that is chosen takes the place of one changed meanwhile.

    Raises:
        LabelingError: there are none, or the home cannot be used.
    """
    home.make()
    is_offline = Environment(os.environ).flag("LABELLOOP_OFFLINE")
    check_weights(project.model, models_dir=home.models, is_offline=is_offline)
    if is_chosen:
        forget_swapped(home.models)


def _to_known_model(model: str) -> str:
    """Return a path as the ML backend finds it from its own folder, and a name as it is."""
    path = Path(model).expanduser()
    if path.is_file():
        return str(path.resolve())
    if len(path.parts) > 1:
        raise LabelingError(f"--model {model}: no such file")
    return model


def make_settings(
    home: Home, project: Project, ports: Mapping[str, int | None], label_config: Path | None
) -> StackSettings:
    """Return what the stack is started with; ``label_config`` None: the one in use.

    Raises:
        LabelConfigError: the label config cannot be used.
    """
    config = label_config or find_label_config(home)
    LabelConfig.read(config)
    return StackSettings(
        project_title=project.name,
        admin_email=os.environ.get("LABELLOOP_ADMIN_EMAIL") or DEFAULT_ADMIN_EMAIL,
        label_config=config,
        database_uri=os.environ.get("FIFTYONE_DATABASE_URI") or None,
        model=project.model,
        ports=ports,
    )


def connect_tools(
    home: Home, project: Project, stack: Stack, settings: StackSettings, addresses: Addresses, on_event: OnEvent
) -> Started:
    """Connect the running tools with one another, and remember the project; a second time nothing changes.

    The label config is kept in the home once Label Studio has accepted it: jobs read that copy, no file that changes.

    Raises:
        ServiceError: Label Studio refused.
        LabelConfigError: the label config lacks a class that is in use.
    """
    if settings.label_config != home.label_config and project.label_studio_id is not None:
        _check_catalogue(home, project, settings, addresses)
    workbench = bootstrap(home, settings, addresses, project_id=project.label_studio_id)
    if workbench.changes:
        on_event(f"Label Studio is set up: {', '.join(workbench.changes)}")
    if settings.label_config != home.label_config:
        _keep_label_config(settings.label_config, home.label_config)
    present = Project.read(home)
    project = replace(
        project,
        label_studio_id=workbench.project_id,
        label_studio_view=workbench.view_id,
        # A stack that ran already goes on with the weights it has.
        model=present.model if present is not None and not stack.started_here else project.model,
    )
    if project != present:
        project.write(home)
    weights = connect_backend(home, addresses.ml_backend).fetch_weights()
    return Started(stack, addresses, project, workbench.url, settings.admin_email, weights)


def _check_catalogue(home: Home, project: Project, settings: StackSettings, addresses: Addresses) -> None:
    set_database(addresses.database_uri)
    check_catalogue_keeps_its_classes(project.name, read_label_config(home), LabelConfig.read(settings.label_config))


def fill(
    home: Home,
    addresses: Addresses,
    folder: Path,
    watch: Watch,
    show: Callable[[Report], None],
    *,
    with_push: bool = True,
) -> None:
    """Take a folder of images all the way to tasks with pre-labels, showing each job's report as it ends.

    Without ``with_push`` no task is made: what people see is chosen later.
    """
    jobs: tuple[tuple[str, dict[str, Any]], ...] = (("ingest", {"folder": str(folder)}), ("prelabel", {}), ("push", {}))
    for name, params in jobs if with_push else jobs[:-1]:
        with watch() as on_progress:
            report = perform_job(home, to_services(addresses), name, params, on_progress)
        show(report)


def perform_job(
    home: Home,
    services: Services,
    name: str,
    params: Mapping[str, Any],
    on_progress: OnProgress,
    *,
    retry_of: int | None = None,
) -> Report:
    """Run a job in this process, as a run that the console shows and can cancel; return its report.

    Raises:
        LabelingError: what the job raises, or there is no project yet.
        JobCancelledError: somebody cancelled the run.
    """
    with Ledger.open(home.ledger) as ledger:
        live = LiveRun(ledger, ledger.record_run_start(name, params, retry_of=retry_of), watch=on_progress)

        def work(tell: OnProgress) -> Report:
            open_tools = open_context(home, services) if name in LONG_JOBS else open_running(home, services, tell)
            with open_tools as context:
                return call_job(context, name, params, tell)

        return live.perform(work)


def _keep_label_config(source: Path, target: Path) -> None:
    part = target.with_suffix(".part")
    part.write_bytes(source.read_bytes())
    part.replace(target)


@contextmanager
def open_running(home: Home, services: Services, on_progress: OnProgress) -> Iterator[Context]:
    """Open the tools, holding the project's lock: one writer at a time."""
    with (
        hold_project_lock(home, lambda line: on_progress(None, line)),
        open_context(home, services) as context,
    ):
        yield context


def find_services(home: Home) -> Services:
    """Return where the tools are: those of the environment, as in a container, else those of the home's stack.

    Raises:
        ServiceError: neither.
    """
    if all(os.environ.get(key) for key in SERVICE_VARIABLES):
        return Services.from_environ(os.environ)
    addresses = Stack(home, StackSettings()).addresses() if home.run.is_dir() else None
    if addresses is None:
        raise ServiceError(f"{home.path}: the stack does not run, start it with: labelloop up")
    return to_services(addresses)


def to_services(addresses: Addresses) -> Services:
    """Return the addresses a job needs."""
    return Services(addresses.label_studio, addresses.ml_backend, addresses.database_uri, addresses.app)
