"""From nothing to a running, connected stack, and from there to images with pre-labels that wait for people."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labels.config import LabelConfig, default_label_config_path
from labels.errors import LabelingError, ServiceError
from sync.backend import MLBackend, ServedWeights
from sync.jobs.context import SERVICE_VARIABLES, Context, Services, open_context
from sync.jobs.lock import hold_project_lock
from sync.jobs.registry import run_job
from sync.report import OnProgress, Report
from sync.services.bootstrap import bootstrap
from sync.services.programs import StackSettings
from sync.services.stack import Stack
from sync.services.stack_record import Addresses
from sync.settings import DEFAULT_ADMIN_EMAIL, Home, Project

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


def choose_project(home: Home, *, name: str | None, model: str | None, label_config: Path | None) -> Project:
    """Return the home's project with what was asked for, made where there is none yet.

    Raises:
        LabelingError: the home holds another project.
        LabelConfigError: the label config cannot be used.
    """
    present = Project.read(home)
    model = None if model is None else _to_known_model(model)
    if present is not None and name is not None and name != present.name:
        raise LabelingError(
            f"{home.path} holds the project {present.name!r}; use another --home or start anew: labelloop reset"
        )
    if label_config is not None:
        LabelConfig.read(label_config)
    project = present or Project(name=name or "labelloop")
    return replace(
        project,
        model=model or project.model,
        label_config=str(label_config.resolve()) if label_config is not None else project.label_config,
    )


def _to_known_model(model: str) -> str:
    """Return a path as the ML backend finds it from its own folder, and a name as it is."""
    path = Path(model).expanduser()
    if path.is_file():
        return str(path.resolve())
    if len(path.parts) > 1:
        raise LabelingError(f"--model {model}: no such file")
    return model


def make_stack(home: Home, project: Project, ports: Mapping[str, int | None]) -> Stack:
    """Return the home's stack, not yet started."""
    return Stack(home, _to_settings(project, ports))


def connect_tools(home: Home, project: Project, stack: Stack, addresses: Addresses, on_event: OnEvent) -> Started:
    """Connect the running tools with one another, and remember the project; a second time nothing changes.

    Raises:
        ServiceError: Label Studio refused.
        LabelConfigError: the label config lacks a class that is in use.
    """
    settings = _to_settings(project, {})
    workbench = bootstrap(home, settings, addresses, project_id=project.label_studio_id)
    if workbench.changes:
        on_event(f"Label Studio is set up: {', '.join(workbench.changes)}")
    project = replace(project, label_studio_id=workbench.project_id, label_studio_view=workbench.view_id)
    if project != Project.read(home):
        project.write(home)
    weights = MLBackend(addresses.ml_backend).fetch_weights()
    return Started(stack, addresses, project, workbench.url, settings.admin_email, weights)


def _to_settings(project: Project, ports: Mapping[str, int | None]) -> StackSettings:
    return StackSettings(
        project_title=project.name,
        admin_email=os.environ.get("LABELLOOP_ADMIN_EMAIL") or DEFAULT_ADMIN_EMAIL,
        label_config=Path(project.label_config) if project.label_config else default_label_config_path(),
        database_uri=os.environ.get("FIFTYONE_DATABASE_URI") or None,
        model=project.model,
        ports=ports,
    )


def fill(home: Home, addresses: Addresses, folder: Path, watch: Watch, show: Callable[[Report], None]) -> None:
    """Take a folder of images all the way to tasks with pre-labels, showing each job's report as it ends."""
    jobs: tuple[tuple[str, dict[str, Any]], ...] = (("ingest", {"folder": str(folder)}), ("prelabel", {}), ("push", {}))
    for name, params in jobs:
        with watch() as on_progress, open_running(home, to_services(addresses), on_progress) as context:
            report = run_job(context, name, params, on_progress)
        show(report)


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
