"""Fills Label Studio with what the loop needs: project, storage, ML backend, webhook, view; again, nothing changes."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from label_studio_sdk.client import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from labels import fields
from labels.config import LabelConfig
from labels.errors import ServiceError
from sync.services.label_config_check import check_image_key_stays, check_nothing_in_use_is_lost
from sync.services.label_studio_token import fetch_json, read_or_make_token
from sync.services.programs import StackSettings
from sync.services.secrets import read_or_make_secret
from sync.services.stack_record import Addresses
from sync.settings import Home
from sync.workbench.connection import connect_sdk

BACKEND_TITLE = "labelloop ML backend"
BACKEND_USER = "labelloop"
BACKEND_WEBHOOK_PATH = "/webhook"
CONNECTED = "CO"
STORAGE_TITLE = "labelloop images"
VIEW_TITLE = "Uncertain first"
VIEW_ORDERING = ["tasks:predictions_score"]
SECRET_HEADER = "X-Labelloop-Secret"  # noqa: S105  the name of a header
WEBHOOK_PATH = "/webhooks/label-studio"
# What changes a review. The others would wake a pull that finds nothing.
WEBHOOK_ACTIONS = [
    "ANNOTATIONS_CREATED",
    "ANNOTATIONS_DELETED",
    "ANNOTATION_CREATED",
    "ANNOTATION_UPDATED",
    "TASKS_DELETED",
]
# The label stream hands out the lowest prediction score first, and shows the predictions as boxes.
PROJECT_SETTINGS: Mapping[str, Any] = {"sampling": "Uncertainty sampling", "show_collab_predictions": True}
# What the Data Manager hides by itself, but for the prediction score.
HIDDEN_COLUMNS = [
    *("inner_id", "cancelled_annotations", "annotations_results", "annotations_ids", "predictions_model_versions"),
    *("predictions_results", "file_upload", "storage_filename", "created_at", "updated_at", "updated_by"),
    *("avg_lead_time", "draft_exists", "data.sample_id", "data.image_sha256"),
]
PROJECTS_PER_PAGE = 100
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Workbench:
    """The project in Label Studio; `url` opens it with the most uncertain tasks first.

    `changes` names what was made or mended, and is empty when all was there.
    """

    project_id: int
    view_id: int
    url: str
    changes: tuple[str, ...]


def bootstrap(home: Home, settings: StackSettings, addresses: Addresses, *, project_id: int | None) -> Workbench:
    """Make what is missing in Label Studio and mend what is different; the second time nothing changes.

    `project_id` is the project of the last time, None when there was none; a project that was deleted is made again.

    Raises:
        LabelConfigError: the label config lacks a class or control that is in use in Label Studio.
        ServiceError: Label Studio, or the ML backend it should connect to, answers no.
    """
    token = read_or_make_token(
        addresses.label_studio,
        email=settings.admin_email,
        password_file=home.secrets / "admin_password",
        token_file=home.secrets / "label_studio_token",
    )
    config = LabelConfig.read(settings.label_config)
    secret = read_or_make_secret(home.secrets / "webhook_secret")
    password = read_or_make_secret(home.secrets / "ml_backend_password")
    with connect(addresses.label_studio, token) as client:
        project, changes = _find_or_make_project(client, config, title=settings.project_title, project_id=project_id)
        changes += _mend_project(client, project, config, url=addresses.label_studio, token=token)
        changes += _mend_storage(client, project, path=str(home.images))
        is_smart = any(control.is_smart for control in config.controls)
        changes += _mend_backend(client, project, url=addresses.ml_backend, password=password, is_smart=is_smart)
        changes += _mend_backend_webhook(
            client, project, url=addresses.ml_backend + BACKEND_WEBHOOK_PATH, secret=secret
        )
        changes += _mend_webhook(client, project, url=addresses.console + WEBHOOK_PATH, secret=secret)
        changes += _mend_model_version(client, project, url=addresses.label_studio, token=token)
        view, view_changes = _find_or_make_view(client, project)
    return Workbench(
        project_id=project,
        view_id=view,
        url=f"{addresses.label_studio}/projects/{project}/data?tab={view}",
        changes=(*changes, *view_changes),
    )


def set_model_version(url: str, token: str, *, project_id: int, model_version: str) -> None:
    """Make a version's predictions the ones that annotators see and that sampling and sorting use.

    Raises:
        ServiceError: the project has no prediction of this version.
    """
    with connect(url, token) as client:
        client.projects.update(id=project_id, model_version=model_version)


@contextlib.contextmanager
def connect(url: str, token: str) -> Iterator[LabelStudio]:
    """Open Label Studio's API with a personal access token; what it answers no to is a ServiceError."""
    # A proxy of this shell must not be asked for a server of this machine.
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False, follow_redirects=True) as http:
        try:
            yield connect_sdk(url, token, http)
        except ApiError as error:
            raise ServiceError(f"Label Studio at {url}: {error.status_code}, {_describe(error.body)}") from error
        except httpx.HTTPError as error:
            raise ServiceError(f"Label Studio at {url}: no answer ({type(error).__name__})") from error


def _describe(body: object) -> str:
    """Return the reason in an error of Label Studio's API, on one line."""
    if not isinstance(body, dict):
        return " ".join(str(body).split())[:300]
    reasons = body.get("validation_errors") or body.get("detail") or body
    return " ".join(str(reasons).split())[:600]


def _find_or_make_project(
    client: LabelStudio, config: LabelConfig, *, title: str, project_id: int | None
) -> tuple[int, list[str]]:
    titles = {project.id: project.title for project in _list_projects(client)}
    known = [found for found in titles if found == project_id]
    namesakes = sorted(found for found in titles if titles[found] == title)
    for found in (*known, *namesakes):
        return found, []
    made = client.projects.create(title=title, label_config=config.xml, **PROJECT_SETTINGS)
    return _require_id(made.id), [f"project {title!r}"]


def _list_projects(client: LabelStudio) -> list[Any]:
    """Return all projects; the SDK's own walk ends with a page that is not there, a traceback in Label Studio's log."""
    projects: list[Any] = []
    for number in itertools.count(1):
        page: Any = client.projects.list(page=number, page_size=PROJECTS_PER_PAGE)
        projects += page.items or []
        if not page.items or len(projects) >= page.response.count:
            break
    return projects


def _require_id(found: int | None) -> int:
    if found is None:
        raise ServiceError("Label Studio answered without an id, which no version we know does")
    return found


def _mend_project(client: LabelStudio, project_id: int, config: LabelConfig, *, url: str, token: str) -> list[str]:
    project = client.projects.get(id=project_id)
    different: dict[str, Any] = {
        key: value for key, value in PROJECT_SETTINGS.items() if getattr(project, key) != value
    }
    if (project.label_config or "").strip() != config.xml.strip():
        check_image_key_stays(project, config)
        drafts = fetch_json(url, token, f"/api/projects/{project_id}/summary/")["created_labels_drafts"]
        check_nothing_in_use_is_lost(client, project_id, config, drafts=drafts)
        different["label_config"] = config.xml
    if different:
        client.projects.update(id=project_id, **different)
    return [f"project's {key}" for key in sorted(different)]


def _mend_storage(client: LabelStudio, project_id: int, *, path: str) -> list[str]:
    storages = client.import_storage.local.list(project=project_id)
    if any(storage.path == path for storage in storages):
        return []
    # The home folder was moved: the same storage, in another place.
    for storage in storages:
        if storage.title == STORAGE_TITLE and storage.id is not None:
            client.import_storage.local.update(id=storage.id, project=project_id, path=path, title=STORAGE_TITLE)
            return ["storage's path"]
    client.import_storage.local.create(project=project_id, path=path, title=STORAGE_TITLE, use_blob_urls=True)
    return ["storage"]


def _mend_backend(client: LabelStudio, project_id: int, *, url: str, password: str, is_smart: bool) -> list[str]:
    """Connect the ML backend, or follow it to its new port or password, and with it the webhook made for it.

    Auto-Annotation is switched on where the label config has smart tools; without any, a person's choice stays.
    """
    backends = [backend for backend in client.ml.list(project=project_id) if backend.title == BACKEND_TITLE]
    wanted: dict[str, Any] = {
        "project": project_id,
        "url": url,
        "title": BACKEND_TITLE,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": BACKEND_USER,
        "basic_auth_pass": password,
    }
    if not backends:
        client.ml.create(**wanted, is_interactive=is_smart)
        return ["ML backend"]
    (backend, *_others) = backends
    # The list asks the backend how it is: Label Studio never tells the password, but whether it still opens the door.
    is_known = backend.auth_method == "BASIC_AUTH" and backend.basic_auth_user == BACKEND_USER
    is_connected = backend.url == url and is_known and backend.state == CONNECTED
    is_missed = is_smart and not backend.is_interactive
    if backend.id is None or (is_connected and not is_missed):
        return []
    client.ml.update(id=backend.id, **wanted, **({"is_interactive": True} if is_missed else {}))
    changes = ["Auto-Annotation"] if is_missed else []
    if is_connected:
        return changes
    for hook in client.webhooks.list(project=str(project_id)):
        if hook.url == f"{backend.url}{BACKEND_WEBHOOK_PATH}" and hook.url != url + BACKEND_WEBHOOK_PATH and hook.id:
            client.webhooks.update(
                id=hook.id, url=url + BACKEND_WEBHOOK_PATH, send_payload=True, send_for_all_actions=True
            )
    return ["ML backend's address" if backend.url != url else "ML backend's password", *changes]


def _mend_backend_webhook(client: LabelStudio, project_id: int, *, url: str, secret: str) -> list[str]:
    """Give the webhook that Label Studio makes for a backend our secret: it does not send the backend's password."""
    headers = {SECRET_HEADER: secret}
    hooks = [hook for hook in client.webhooks.list(project=str(project_id)) if hook.url == url]
    different = [hook for hook in hooks if hook.id is not None and hook.headers != headers]
    for hook in different:
        client.webhooks.update(id=hook.id or 0, url=url, headers=headers, send_payload=True, send_for_all_actions=True)
    return ["ML backend's webhook"] if different else []


def _mend_webhook(client: LabelStudio, project_id: int, *, url: str, secret: str) -> list[str]:
    wanted: dict[str, Any] = {
        "url": url,
        "headers": {SECRET_HEADER: secret},
        "is_active": True,
        # Its news is that there is something to pull; what, is asked for then.
        "send_payload": False,
        "send_for_all_actions": False,
        "actions": WEBHOOK_ACTIONS,
    }
    hooks = [hook for hook in client.webhooks.list(project=str(project_id)) if hook.url.endswith(WEBHOOK_PATH)]
    if not hooks:
        client.webhooks.create(project=project_id, **wanted)
        return ["webhook"]
    hook = hooks[0]
    is_same = all(getattr(hook, key) == value for key, value in wanted.items() if key != "actions")
    if hook.id is None or (is_same and sorted(hook.actions or []) == sorted(WEBHOOK_ACTIONS)):
        return []
    client.webhooks.update(id=hook.id, **wanted)
    return ["webhook's settings"]


def _mend_model_version(client: LabelStudio, project_id: int, *, url: str, token: str) -> list[str]:
    """Take the project's model version off the ML backend's title.

    Connecting a backend sets it to that title, which no prediction carries: sampling, sorting and the label stream
    would find nothing. The version with the newest predictions takes its place, or none.
    """
    if client.projects.get(id=project_id).model_version != BACKEND_TITLE:
        return []
    known = fetch_json(url, token, f"/api/projects/{project_id}/model-versions/?extended=true")["static"]
    drawn = [version for version in known if version["model_version"] != fields.MISTAKES_VERSION]
    newest = max(drawn, key=lambda version: version["latest"], default=None)
    client.projects.update(id=project_id, model_version="" if newest is None else newest["model_version"])
    return [] if newest is None else ["project's model version"]


def _find_or_make_view(client: LabelStudio, project_id: int) -> tuple[int, list[str]]:
    views = [view for view in client.views.list(project=project_id) if (view.data or {}).get("title") == VIEW_TITLE]
    if not views:
        data: dict[str, Any] = {
            "title": VIEW_TITLE,
            "type": "list",
            "target": "tasks",
            "ordering": VIEW_ORDERING,
            "filters": {"conjunction": "and", "items": []},
            "hiddenColumns": {"explore": [f"tasks:{name}" for name in HIDDEN_COLUMNS], "labeling": []},
        }
        made = client.views.create(project=project_id, data=data)
        return _require_id(made.id), [f"view {VIEW_TITLE!r}"]
    view = views[0]
    if view.data["ordering"] == VIEW_ORDERING:
        return _require_id(view.id), []
    client.views.update(id=str(view.id), project=project_id, data={**view.data, "ordering": VIEW_ORDERING})
    return _require_id(view.id), ["view's ordering"]
