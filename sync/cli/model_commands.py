"""The commands about models: which there are, what one finds, how it is served quickest, how far it can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from labels.errors import LabelingError
from sync.cli.drawings import check_lines_file, choose_targets, find_images, make_folder, save_drawing
from sync.cli.running import run_here
from sync.settings import Home, Project

if TYPE_CHECKING:
    from ml_backend.answers.label_plans import Thresholds
    from ml_backend.serving.engine import Engine
    from ml_backend.settings import Settings

IMAGE_PATH: Final = click.Path(exists=True, path_type=Path)


@click.command()
@click.option("--here", is_flag=True, help="Only those whose weights are on this machine.")
@click.option("--task", help="Only those of a task, such as detect or segment.")
@click.pass_obj
def models(home: Home, here: bool, task: str | None) -> None:
    """List the models that can be served: task, size, accuracy, licence, and whether the weights are here.

    Registered ones come first, with their accuracy on the test images they were judged by; of the others it is the
    published one.

    Example: labelloop models --here
    """
    from ml_backend.detectors import TASKS
    from ml_backend.models.catalog import UNKNOWN, list_models

    if task is not None and task not in (*TASKS, UNKNOWN):
        raise click.BadParameter(f"{task!r}: expected one of {', '.join((*TASKS, UNKNOWN))}", param_hint="--task")
    rows = [("name", "task", "params M", "mAP", "licence", "weights"), *_list_registered(home, task)]
    for model in list_models(home.models):
        if (here and not model.is_here) or (task is not None and model.task != task):
            continue
        numbers = (_show_number(model.parameters_m), _show_number(model.coco_map))
        rows.append(
            (model.name, model.task, *numbers, model.licence, model.damage or ("here" if model.is_here else "-"))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(rows) == 1:
        click.echo("none; weights are looked for in " + str(home.models), err=True)


def _list_registered(home: Home, task: str | None) -> Iterator[tuple[str, ...]]:
    """Yield a row for each model of the registry."""
    from sync.models.gate import METRIC as BOXES
    from sync.models.registry import Registry

    registry, project = Registry(home), Project.read(home)
    for model_id in registry.ids():
        card = registry.read(model_id)
        if task is not None and card.task != task:
            continue
        found = None if card.evaluation is None else card.evaluation.score
        score = _show_number(None if found is None else found * 100)
        if card.evaluation is not None and found is not None and card.evaluation.metric != BOXES:
            score += f" {card.evaluation.metric}"
        is_current = project is not None and project.model == model_id
        state = "current" if is_current else "registered"
        yield card.id, card.task or "-", "-", score, card.licence or "-", state


def _show_number(number: float | None) -> str:
    return "-" if number is None else f"{number:.1f}"


@click.command()
@click.argument("paths", metavar="[IMAGE|FOLDER]...", nargs=-1, type=IMAGE_PATH)
@click.option("--model", help="Weights: a path, a known name, or several with commas. [default: the home's, yolo11n]")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("predicted"), help="For drawings."
)
@click.option("--overwrite", is_flag=True, help="Replace drawings of an earlier run; never any other file.")
@click.option("--conf", type=click.FloatRange(0, 1), default=0.2, help="Show what is at least this probable.")
@click.option("--jsonl", type=click.Path(dir_okay=False, path_type=Path), help="Write JSON lines here, no drawings.")
@click.option("--dataset", is_flag=True, help="All images of the home's project, as JSON lines.")
@click.option("--classes", help="What an open-vocabulary model looks for, with commas.")
@click.option("--device", help="auto, cpu, cuda or cuda:N. [default: auto]")
@click.option("--trust-weights", is_flag=True, help="Load weights that can run code of their own.")
@click.pass_obj
def predict(
    home: Home,
    /,
    paths: tuple[Path, ...],
    model: str | None,
    out: Path,
    overwrite: bool,
    conf: float,
    jsonl: Path | None,
    dataset: bool,
    **options: Any,
) -> None:
    """Draw what a model finds onto copies of images, or write it as JSON lines; needs no running stack.

    A run with JSON lines that was stopped goes on where it was; of --dataset they are kept in the home's exports.
    LABELLOOP_CLASS_THRESHOLDS goes before --conf for its classes. A file that predict did not write stays as it is.

    Example: labelloop predict photo.jpg --model yolo11n
    """
    from ml_backend.serving.offline import open_engine

    if dataset == bool(paths):
        raise click.UsageError("give images or folders, or --dataset")
    if model is not None and not model.strip():
        raise click.UsageError("--model: names no model")
    images = _read_dataset(home) if dataset else find_images(paths, out)
    if not images:
        raise LabelingError("there is no image to look at")
    is_drawing = not dataset and jsonl is None
    targets = choose_targets(images, out, is_replacing=overwrite) if is_drawing else {}
    if jsonl is not None:
        check_lines_file(jsonl, images)
    settings = _make_settings(home, model, conf, is_bulk=dataset or jsonl is not None, **options)
    with open_engine(settings) as engine:
        version = engine.holder.get().version
        thresholds = _read_thresholds(engine)
        if dataset and jsonl is None:
            jsonl = home.exports / f"predictions-{version.replace('/', '_')}.jsonl"
        if jsonl is None:
            failed = _draw(engine, targets, thresholds, is_replacing=overwrite)
        else:
            failed = _write_lines(engine, images, jsonl, thresholds)
    if failed:
        raise click.exceptions.Exit(1)


def _make_settings(
    home: Home,
    model: str | None,
    conf: float,
    *,
    is_bulk: bool,
    classes: str | None,
    device: str | None,
    trust_weights: bool,
) -> Settings:
    """Return the ML backend's settings from the environment, with what the command line says in their place."""
    import os
    from dataclasses import replace

    from ml_backend.settings import Settings

    project = Project.read(home)
    changed = {
        "LABELLOOP_MODEL": model or os.environ.get("LABELLOOP_MODEL") or (project.model if project else "yolo11n")
    }
    if device is not None:
        changed["LABELLOOP_DEVICE"] = device
    if trust_weights:
        changed["LABELLOOP_TRUST_WEIGHTS"] = "1"
    if not is_bulk:
        # To compile a model takes longer than a few images do.
        changed.setdefault("LABELLOOP_RUNTIME", os.environ.get("LABELLOOP_RUNTIME") or "torch")
    paths = {"LABELLOOP_HOME": str(home.path)}
    settings = Settings.from_environment({**os.environ, **paths, **changed})
    names = tuple(name.strip() for name in (classes or "").split(",") if name.strip())
    if classes is not None and not names:
        raise click.UsageError("--classes: names no class")
    options = replace(settings.options, class_names=names) if names else settings.options
    return replace(settings, score_threshold=conf, options=options)


def _read_thresholds(engine: Engine) -> Thresholds:
    """Return the thresholds of the settings, after a word on those for a class that the model does not have."""
    from ml_backend.answers.label_plans import Thresholds

    thresholds = Thresholds(engine.settings.score_threshold, engine.settings.class_thresholds)
    names = list(engine.holder.get().detector.names.values())
    unknown = thresholds.find_unknown(names)
    if unknown:
        click.echo(
            f"LABELLOOP_CLASS_THRESHOLDS: the model has no class {', '.join(unknown)} (known: {', '.join(names)})",
            err=True,
        )
    return thresholds


def _read_dataset(home: Home) -> list[Path]:
    from sync import startup
    from sync.jobs.context import open_dataset
    from sync.settings import read_label_config

    project = Project.read(home)
    if project is None:
        raise LabelingError(f"{home.path}: there is no project yet, start with: labelloop up --images DIR")
    services = startup.find_services(home)
    dataset = open_dataset(project.name, read_label_config(home), services.database_uri)
    return sorted(image.path for image in dataset.images().values())


def _draw(engine: Engine, targets: Mapping[Path, Path], thresholds: Thresholds, *, is_replacing: bool) -> int:
    from ml_backend.answers.drawing import draw_detections
    from ml_backend.imaging.decoding import decode_image
    from ml_backend.serving.jsonl import find_shown
    from ml_backend.serving.offline import detect_files

    for folder in {target.parent for target in targets.values()}:
        make_folder(folder)
    names = engine.holder.get().detector.names
    failed = 0
    for answer in detect_files(engine, targets, score_floor=_find_floor(thresholds)):
        if answer.found is None:
            click.echo(_name_problem(answer.path, answer.problem), err=True)
            failed += 1
            continue
        shown = answer.found.select(find_shown(answer.found, names, thresholds))
        pixels = decode_image(answer.path.read_bytes(), item=str(answer.path)).pixels
        target = targets[answer.path]
        save_drawing(draw_detections(pixels, shown, names), target, is_replacing=is_replacing)
        click.echo(f"{target}: {_describe(shown, names)}")
    return failed


def _find_floor(thresholds: Thresholds) -> float:
    """Return a number just below the lowest threshold: detectors keep what is above a floor, we what is at it."""
    return max(min([thresholds.default, *thresholds.by_label.values()]) - 1e-6, 0.0)


def _name_problem(path: Path, problem: str | None) -> str:
    text = problem or "no answer"
    return text if text.startswith(str(path)) else f"{path}: {text}"


def _describe(found: Any, names: Any) -> str:
    from collections import Counter

    if found.image_probabilities is not None:
        best = int(found.image_probabilities.argmax())
        return f"{names.get(best, best)} {float(found.image_probabilities[best]):.2f}"
    counts = Counter(str(names.get(int(class_id), class_id)) for class_id in found.class_ids)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing found"


def _write_lines(engine: Engine, images: list[Path], target: Path, thresholds: Thresholds) -> int:
    import json

    from ml_backend.answers.uncertainty import CANDIDATE_FLOOR
    from ml_backend.serving.jsonl import read_done, to_line
    from ml_backend.serving.offline import detect_files
    from sync.terminal import watch_progress

    model = engine.holder.get()
    done = read_done(target, model_version=model.version, thresholds=thresholds)
    left = [path for path in images if str(path) not in done]
    target.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    floor = min(_find_floor(thresholds), CANDIDATE_FLOOR - 1e-6)
    with target.open("a", encoding="utf-8") as file, watch_progress() as on_progress:
        for number, answer in enumerate(detect_files(engine, left, score_floor=floor)):
            on_progress(number / len(left), f"predicting with {model.version}, {number}/{len(left)}")
            line = to_line(
                answer,
                model.detector.names,
                model_version=model.version,
                thresholds=thresholds,
                is_calibrated=model.calibration is not None,
            )
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            if "problem" in line:
                failed += 1
                click.echo(_name_problem(answer.path, str(line["problem"])), err=True)
        on_progress(1.0, f"predicted with {model.version}: {len(left)} of {len(left)}")
    click.echo(f"{target}: {len(left) - failed} images written, {len(done)} there already, {failed} failed")
    return failed


@click.command("compile")
@click.argument("model")
@click.option("--to", "form", type=click.Choice(["onnx", "openvino"]), default="openvino", help="Form to be served in.")
@click.option("--trust-weights", is_flag=True, help="Load weights that can run code of their own.")
@click.pass_obj
def compile_command(home: Home, model: str, form: str, trust_weights: bool) -> None:
    """Export a model to the form that is quickest on a CPU; the ML backend finds it in the home's models.

    Example: labelloop compile yolo11n --to onnx
    """
    from ml_backend.models.compiling import compile_model
    from ml_backend.models.weights import compute_version, resolve_weights

    weights = resolve_weights(model, models_dir=home.models)
    for path in weights.paths:
        compiled = compile_model(path, form, cache_dir=home.models / "compiled", is_trusted=trust_weights)
        click.echo(f"{compute_version(path)}: {compiled}")


@click.command()
@click.option("--method", type=click.Choice(["platt", "isotonic"]), default="platt", help="Which curve is fitted.")
@click.option(
    "--look-again", is_flag=True, help="Have the model look at the reviewed images again, doubtful boxes too."
)
@click.pass_obj
def calibrate(home: Home, method: str, look_again: bool) -> None:
    """Fit the model's probabilities to what people made of its boxes, and print the error before and after.

    Example: labelloop calibrate --look-again
    """
    run_here(home, "calibrate", {"method": method, **({"look_again": True} if look_again else {})})
