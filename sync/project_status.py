"""Where the project stands, from the ledger, the catalogue and the job runs."""

from __future__ import annotations

from labels import fields
from labels.errors import ServiceError
from sync.console.status import Counts, Status, Tool
from sync.jobs.context import Services, connect_backend, open_dataset
from sync.ledger import Ledger
from sync.settings import Home, Project, read_label_config

RUNS_SHOWN = 10
SERVED_TIMEOUT_S = 1.0


def read_status(home: Home, services: Services) -> Status:
    """Return counts by state, the model whose labels annotators see, the last runs and where to click.

    Raises:
        LabelingError: the ledger or MongoDB cannot be read.
    """
    project = Project.read(home)
    if project is None:
        return Status(tools=_to_tools(services, None), problem="no project yet, start with: labelloop up --images DIR")
    dataset = open_dataset(project.name, read_label_config(home), services.database_uri)
    with Ledger.open(home.ledger) as ledger:
        counts, versions = ledger.counts(), ledger.model_versions()
        runs = tuple(ledger.runs(limit=RUNS_SHOWN))
    return Status(
        counts=Counts(
            not_sent=dataset.unsent_count(),
            queued=counts[fields.QUEUED] - counts["gone_queued"],
            reviewed=counts[fields.REVIEWED],
            skipped=counts[fields.SKIPPED],
            conflicts=counts[fields.CONFLICT],
            failed=counts["failed"],
            task_deleted=counts["gone_queued"],
        ),
        dataset=project.name,
        model_version=next(iter(versions), None),
        served_version=_fetch_served(home, services),
        runs=runs,
        tools=_to_tools(services, project),
    )


def _fetch_served(home: Home, services: Services) -> str | None:
    """Return the version that is served now; None where the ML backend does not say."""
    try:
        return connect_backend(home, services.ml_backend).fetch_weights(timeout_s=SERVED_TIMEOUT_S).model_version
    except ServiceError:
        return None


def _to_tools(services: Services, project: Project | None) -> tuple[Tool, ...]:
    tasks = services.label_studio_link or services.label_studio
    if project is not None and project.label_studio_id is not None:
        tasks += f"/projects/{project.label_studio_id}/data"
        tasks += f"?tab={project.label_studio_view}" if project.label_studio_view is not None else ""
    app = services.app
    if app is not None and project is not None:
        app += f"/datasets/{project.name}"
    return (
        Tool(
            "label_studio", "Label Studio", tasks, "tasks, the most uncertain first", f"{services.label_studio}/health"
        ),
        Tool("app", "FiftyOne App", app, "the whole collection", services.app),
        Tool("ml_backend", "ML backend", None, "draws the pre-labels", f"{services.ml_backend}/ready"),
    )
