"""The commands that start, stop and look at the local stack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import requests

from labels.errors import LabelingError
from sync.demo import write_demo_images
from sync.services.programs import APP, CONSOLE, LABEL_STUDIO, ML_BACKEND, MONGOD, StackSettings
from sync.services.stack import Stack
from sync.services.stack_record import Addresses
from sync.settings import ANNOTATOR_POLICIES, DEMO_FOLDER, Home, Project, read_secret
from sync.terminal import show_addresses, show_event, show_report, watch_progress

FindImages = Callable[[Addresses], Path | None]
STATUS_TIMEOUT_S = 10
PORT = click.IntRange(1, 65535)


def starting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the commands that start the stack."""
    options = [
        click.option("--detach", is_flag=True, help="Return when all is ready; stop with: labelloop down."),
        click.option("--model", help="Weights: a path or a known name such as yolo11n. [default: the one in use]"),
        click.option(
            "--label-studio-port", type=PORT, default=8080, help="Preferred port; a free one when it is taken."
        ),
        click.option("--ml-backend-port", type=PORT, default=9090, help="As above, for the ML backend."),
        click.option("--console-port", type=PORT, default=9091, help="As above, for the console."),
        click.option("--app-port", type=PORT, default=5151, help="As above, for the FiftyOne App."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@starting_options
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of images to label, with its subfolders.",
)
@click.option(
    "--label-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Label config of the project. [default: the one in use, at first the 80 COCO classes]",
)
@click.option("--project", help="Name of the project and dataset. [default: the one in use, at first labelloop]")
@click.option("--no-push", is_flag=True, help="Send nothing: choose what people see with labelloop queue.")
@click.option(
    "--annotators",
    type=click.Choice(ANNOTATOR_POLICIES),
    help="Which of several people's answers on one image counts. [default: the one in use, at first latest]",
)
@click.pass_obj
def up(
    home: Home,
    /,
    images: Path | None,
    label_config: Path | None,
    project: str | None,
    no_push: bool,
    annotators: str | None,
    detach: bool,
    model: str | None,
    **ports: int,
) -> None:
    """Start everything, and send a folder's images to Label Studio with boxes already drawn.

    Runs until Ctrl-C, which stops all it started. A second time it finds everything as it is.

    Example: labelloop up --images ~/photos --model yolo11n
    """
    from sync import startup

    if images is not None and project is None and _holds_demo(home):
        raise LabelingError(f"{home.path} holds the demo; use another folder (--home) or remove it: labelloop reset")
    chosen = startup.choose_project(home, name=project, model=model, annotators=annotators)
    _run_stack(
        home,
        chosen,
        ports,
        lambda _: images,
        detach=detach,
        is_model_chosen=model is not None,
        label_config=label_config,
        with_push=not no_push,
    )


@click.command()
@starting_options
@click.option("--zoo", help="Take the images of a FiftyOne zoo dataset, such as quickstart, instead (downloads it).")
@click.pass_obj
def demo(home: Home, /, zoo: str | None, detach: bool, model: str | None, **ports: int) -> None:
    """Start everything with a small set of photos to try it on; needs no network.

    Example: labelloop demo
    """
    from sync import startup

    chosen = startup.choose_project(home, name="demo", model=model)
    _run_stack(
        home,
        chosen,
        ports,
        lambda addresses: _find_demo_images(home, addresses, zoo),
        detach=detach,
        is_model_chosen=model is not None,
    )


def _find_demo_images(home: Home, addresses: Addresses, zoo: str | None) -> Path:
    if zoo is None:
        folder = home.path / DEMO_FOLDER
        write_demo_images(folder)
        return folder
    from sync.zoo import fetch_zoo_images

    return fetch_zoo_images(zoo, addresses.database_uri)


def _holds_demo(home: Home) -> bool:
    present = Project.read(home)
    return present is not None and present.name == "demo"


def _run_stack(
    home: Home,
    project: Project,
    ports: dict[str, int],
    find_images: FindImages,
    *,
    detach: bool,
    is_model_chosen: bool,
    label_config: Path | None = None,
    with_push: bool = True,
) -> None:
    from sync import startup

    settings = startup.make_settings(home, project, _to_ports(ports), label_config)
    stack = Stack(home, settings)
    if not stack.is_running():
        startup.check_model(home, project, is_chosen=is_model_chosen)
    if Project.read(home) is None:
        show_event("first start: Label Studio makes its database, which takes about a minute")
    with stack.running(show_event, stays_up=detach) as addresses:
        started = startup.connect_tools(home, project, stack, settings, addresses, show_event)
        images = find_images(addresses)
        if images is not None:
            startup.fill(home, addresses, images, watch_progress, show_report, with_push=with_push)
        show_addresses(home, started)
        if stack.started_here and not detach:
            click.echo("Ctrl-C stops everything.", err=True)
            stack.wait(show_event)


def _to_ports(ports: dict[str, int]) -> dict[str, int | None]:
    return {
        MONGOD: None,
        LABEL_STUDIO: ports["label_studio_port"],
        ML_BACKEND: ports["ml_backend_port"],
        CONSOLE: ports["console_port"],
        APP: ports["app_port"],
    }


@click.command()
@click.pass_obj
def down(home: Home) -> None:
    """Stop everything this home started, in order; data stays.

    Example: labelloop down
    """
    if not Stack(home, StackSettings()).stop(show_event):
        click.echo("nothing runs")


@click.command()
@click.pass_obj
def status(home: Home) -> None:
    """Show what runs, where, and how many samples are in each state.

    Example: labelloop status
    """
    stack = Stack(home, StackSettings())
    processes = stack.status()
    if not processes:
        click.echo(f"{home.path}: nothing runs, start it with: labelloop up")
        return
    for process in processes:
        click.echo(f"{process.name:14} {process.state:9} 127.0.0.1:{process.port}  log {process.log}")
    addresses = stack.addresses()
    if addresses is None:
        raise LabelingError("the stack is not up yet; look again in a moment")
    session = requests.Session()
    session.trust_env = False
    try:
        header = {"Authorization": f"Bearer {read_secret(home, 'console_token')}"}
        answer = session.get(f"{addresses.console}/api/status", headers=header, timeout=STATUS_TIMEOUT_S).json()
    except (requests.RequestException, ValueError) as error:
        raise LabelingError(f"the console does not answer; look again in a moment, or in {home.logs}") from error
    if answer.get("error") or answer.get("problem"):
        raise LabelingError(f"{answer.get('error') or answer['problem']} ({home.logs / 'console.log'})")
    counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in answer["counts"].items())
    click.echo(f"samples        {counts}")
    served, shown = answer["served_version"], answer["model_version"]
    click.echo(f"model          {served or 'unknown, the ML backend does not answer'}")
    if shown is None:
        click.echo("pre-labels     none sent yet")
    elif shown != served:
        click.echo(f"pre-labels     by {shown}")
    for name, url in answer["links"].items():
        click.echo(f"{name.replace('_', ' '):14} {url}")
    click.echo(f"console        {addresses.console}")


@click.command()
@click.option("--curator", required=True, help="Whose App server; the same name gives the same address.")
@click.pass_obj
def app(home: Home, curator: str) -> None:
    """Start one more FiftyOne App on the same data: one App server is one person's view.

    Example: labelloop app --curator ana
    """
    url = Stack(home, StackSettings()).start_app(curator, show_event)
    project = Project.read(home)
    click.echo(url if project is None else f"{url}/datasets/{project.name}")


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def reset(home: Home, yes: bool) -> None:
    """Stop everything and delete the home: Label Studio's and FiftyOne's data, labels, models, exports.

    The folders of images it was started with are not touched, nor is anything else that labelloop did not make.

    Example: labelloop reset --yes
    """
    if not home.is_home:
        raise LabelingError(f"{home.path}: no home of labelloop")
    if not yes:
        click.confirm(f"Delete {home.path} with all labels in it?", abort=True)
    Stack(home, StackSettings()).stop(show_event)
    left = home.delete()
    click.echo(f"deleted {home.path}")
    if left:
        click.echo(f"left in it, since labelloop did not make it: {', '.join(path.name for path in left)}")
