"""docker-compose.yml keeps its promises, and runs what the local stack runs. No container engine is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from labels.errors import ServiceError
from sync.services import programs
from sync.services.programs import Program, StackSettings, plan_programs
from sync.services.secrets import read_secret
from sync.services.setup import connect_tools, make_secrets
from sync.settings import Home

REPOSITORY = Path(__file__).parents[1]
COMPOSE = REPOSITORY / "docker-compose.yml"
PORTS = {"mongod": 27017, "label-studio": 8080, "ml-backend": 9090, "console": 9091, "app": 5151}
ONE_SHOT = {"secrets", "connect"}
PASSWORD_KEY = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY")
# What the containers need besides the local stack's variables, and why they may differ.
CONTAINER_ONLY = {
    "label-studio": {f"LABEL_STUDIO_POSTGRE_{name}" for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT")},
    "console": {"LABELLOOP_CONSOLE_HOSTS"},
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


@pytest.fixture(scope="module")
def local() -> dict[str, Program]:
    settings = StackSettings(database_uri="mongodb://elsewhere/")
    return {program.name: program for program in plan_programs(Home(Path("/state")), settings, PORTS)}


def test_the_file_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_password_comes_from_outside_and_has_no_default(services: dict[str, dict[str, Any]]) -> None:
    text = COMPOSE.read_text(encoding="utf-8")
    assert not re.findall(r"\$\{[A-Z_]*PASSWORD[A-Z_]*(?!:\?|[A-Z_])[^}]*\}", text)
    values = [
        (name, key, str(value))
        for name, service in services.items()
        for key, value in service.get("environment", {}).items()
        if PASSWORD_KEY.search(key)
    ]
    wrong = [entry for entry in values if not entry[2].startswith(("${", "/state/secrets/"))]
    assert values
    assert wrong == []
    example = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
    assert re.findall(r"^#?[A-Z_]*PASSWORD=(.*)$", example, re.MULTILINE) == ["", "", ""]


def test_every_variable_the_file_asks_for_is_explained_in_the_example() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE.read_text(encoding="utf-8")))
    explained = set(
        re.findall(r"^#?([A-Z_]+)=", (REPOSITORY / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert explained - {"COMPOSE_PROFILES"} == asked


def test_every_port_is_published_on_the_loopback_address_alone(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"label-studio", "console", "app"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert not [name for name, service in services.items() if "network_mode" in service]


def test_every_server_has_a_health_check_and_every_step_ends(services: dict[str, dict[str, Any]]) -> None:
    assert {name for name, service in services.items() if "healthcheck" not in service} == ONE_SHOT
    assert {name for name, service in services.items() if service["restart"] == "no"} == ONE_SHOT


def test_images_are_pinned_to_a_version(services: dict[str, dict[str, Any]]) -> None:
    tags = {service["image"] for service in services.values()}
    assert [tag for tag in tags if not re.search(r":\d+\.\d+(\.\d+)?(-[a-z]+)?$", tag)] == []
    lines = (REPOSITORY / "docker" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert [base for base in bases if base != "base" and not re.search(r":\d+\.\d+\.\d+", base)] == []


def test_media_is_one_mount_at_one_place_and_read_only(services: dict[str, dict[str, Any]]) -> None:
    mounts = {
        name: volume
        for name, service in services.items()
        for volume in service.get("volumes", [])
        if "LABELLOOP_IMAGES" in volume
    }
    assert set(mounts) == {"label-studio", "ml-backend", "ml-backend-gpu", "console", "app", "connect"}
    assert len(set(mounts.values())) == 1
    assert next(iter(mounts.values())).endswith(f":{Home(Path('/state')).images}:ro")


def test_every_volume_is_named(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    used = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert {name for name in used if not name.startswith("${")} == set(compose["volumes"])


@pytest.mark.parametrize("name", ["label-studio", "ml-backend", "console", "app"])
def test_a_container_runs_the_local_command_with_the_local_variables(
    services: dict[str, dict[str, Any]], local: dict[str, Program], name: str
) -> None:
    service, program = services[name], local[name]
    expected = ["python", *("0.0.0.0" if part == "127.0.0.1" else part for part in program.argv[1:])]
    assert service["command"] == expected
    assert set(service["environment"]) - CONTAINER_ONLY.get(name, set()) == {
        *program.environment,
        *program.secret_environment,
    }
    paths = {key: value for key, value in program.environment.items() if value.startswith("/state")}
    assert {key: service["environment"][key] for key in paths} == paths


def test_label_studio_has_the_same_switches(services: dict[str, dict[str, Any]]) -> None:
    environment = services["label-studio"]["environment"]
    assert {key: environment[key] for key in programs.LABEL_STUDIO_QUIET} == dict(programs.LABEL_STUDIO_QUIET)


def test_the_gpu_is_a_profile_and_the_processor_the_default(services: dict[str, dict[str, Any]]) -> None:
    assert services["ml-backend"]["profiles"] == ["cpu"]
    assert services["ml-backend-gpu"]["profiles"] == ["gpu"]
    assert services["ml-backend-gpu"]["environment"]["LABELLOOP_DEVICE"] == "cuda:0"
    assert services["ml-backend-gpu"]["networks"]["default"]["aliases"] == ["ml-backend"]
    assert "COMPOSE_PROFILES=cpu" in (REPOSITORY / ".env.example").read_text(encoding="utf-8").splitlines()


def test_the_first_step_makes_the_secrets_the_servers_read(tmp_path: Path, services: dict[str, dict[str, Any]]) -> None:
    home = Home(tmp_path)
    make_secrets(home, {"LABELLOOP_ADMIN_PASSWORD": "chosen"})
    token = read_secret(home.secrets / "console_token")
    make_secrets(home, {"LABELLOOP_ADMIN_PASSWORD": "chosen"})
    assert read_secret(home.secrets / "admin_password") == "chosen"
    assert read_secret(home.secrets / "console_token") == token
    read = {
        Path(services["console"]["environment"][key]).name
        for key in services["console"]["environment"]
        if "_FILE" in key
    }
    assert read - {"label_studio_token"} <= {path.name for path in home.secrets.iterdir()}


def test_the_last_step_names_the_addresses_it_misses(tmp_path: Path, services: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(ServiceError, match="LABEL_STUDIO_URL, LABELLOOP_ML_BACKEND_URL, LABELLOOP_CONSOLE_URL"):
        connect_tools(Home(tmp_path), {})
    assert set(services["connect"]["environment"]) >= {
        "LABEL_STUDIO_URL",
        "LABELLOOP_ML_BACKEND_URL",
        "LABELLOOP_CONSOLE_URL",
    }
