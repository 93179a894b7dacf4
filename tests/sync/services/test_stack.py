"""The stack as a whole, with the real supervisord and stub servers in the place of the real ones."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import requests

from labels.errors import LabelingError, ServiceError
from sync.services import stack as stack_module
from sync.services.ports import find_free_port
from tests.sync.services.stub_stack import ANY_PORTS, StubStack

Say = Callable[[str], None]
SERVERS = {"app", "console", "label-studio", "ml-backend", "mongod"}
REPOSITORY = Path(__file__).parents[3]


def read_pids(stub_stack: StubStack) -> dict[str, int | None]:
    return {entry.name: entry.pid for entry in stub_stack.make().status()}


def read_supervisor_pid(stub_stack: StubStack) -> int:
    record = json.loads((stub_stack.home.run / "stack.json").read_text(encoding="utf-8"))
    return int(record["supervisor"]["pid"])


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_a_start_brings_everything_up_and_a_second_one_leaves_it_as_it_is(
    stub_stack: StubStack, events: list[str], say: Say
) -> None:
    first = stub_stack.make()
    addresses = first.start(say)
    pids = read_pids(stub_stack)

    second = stub_stack.make()
    again = second.start(events.append)

    assert set(pids) == SERVERS
    assert None not in pids.values()
    assert again == addresses == second.addresses()
    assert read_pids(stub_stack) == pids
    assert (first.started_here, second.started_here) == (True, False)
    assert sorted(stub_stack.notes) == [f"{name} started" for name in sorted(SERVERS)]
    assert requests.get(addresses.console, timeout=5).status_code == 200


def test_mongod_starts_before_the_servers_that_need_it_and_stops_after_all_of_them(stub_stack: StubStack) -> None:
    stack = stub_stack.make()
    stack.start()
    begun_s = time.monotonic()
    was_running = stack.stop()
    took_s = time.monotonic() - begun_s

    notes = stub_stack.notes
    assert was_running
    assert notes.index("mongod started") < notes.index("app started")
    assert notes.index("mongod started") < notes.index("console started")
    assert notes[-1] == "mongod stopped"
    assert sorted(notes[5:]) == [f"{name} stopped" for name in sorted(SERVERS)]
    assert took_s < 8


def test_stopping_a_stack_that_does_not_run_does_nothing(stub_stack: StubStack) -> None:
    assert not stub_stack.make().stop()
    assert stub_stack.make().status() == []
    assert stub_stack.make().addresses() is None


def test_the_next_start_uses_the_same_ports(stub_stack: StubStack) -> None:
    addresses = stub_stack.make().start()
    stub_stack.make().stop()
    assert stub_stack.make().start() == addresses


def test_a_port_that_is_asked_for_comes_before_the_last_one(stub_stack: StubStack) -> None:
    stub_stack.make().start()
    stub_stack.make().stop()
    port = find_free_port()
    stub_stack.settings = replace(stub_stack.settings, ports={**ANY_PORTS, "app": port})
    assert stub_stack.make().start().app == f"http://127.0.0.1:{port}"


def test_a_taken_port_is_left_to_its_owner_and_said(stub_stack: StubStack, events: list[str], say: Say) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        stub_stack.settings = replace(stub_stack.settings, ports={**ANY_PORTS, "label-studio": taken})
        addresses = stub_stack.make().start(say)

    port = int(addresses.label_studio.rsplit(":", 1)[1])
    assert port != taken
    assert f"port {taken} is taken by another program, label-studio uses {port}" in events


def test_a_server_that_ends_while_it_starts_is_told_with_its_last_lines_and_nothing_stays(
    stub_stack: StubStack, events: list[str], say: Say
) -> None:
    stub_stack.faults["ml-backend"] = "exit"
    with pytest.raises(ServiceError, match="ml-backend ended while it started") as caught:
        stub_stack.make().start(say)

    assert str(stub_stack.home.logs / "ml-backend.log") in str(caught.value)
    assert "the disk is on fire" in str(caught.value)
    assert stub_stack.make().status() == []
    assert "mongod stopped" in stub_stack.notes


def test_a_server_that_never_answers_is_given_up(stub_stack: StubStack) -> None:
    stub_stack.faults["console"] = "deaf"
    stub_stack.start_timeout_s = 2.0
    with pytest.raises(ServiceError, match="console is not up after 2 s"):
        stub_stack.make().start()
    assert stub_stack.make().status() == []


def test_a_server_that_does_not_end_is_killed(stub_stack: StubStack) -> None:
    stub_stack.faults["app"] = "stubborn"
    stack = stub_stack.make()
    stack.start()
    pid = read_pids(stub_stack)["app"]
    stack.stop()
    assert pid is not None
    assert not is_alive(pid)
    assert stub_stack.notes[-1] == "mongod stopped"


def test_a_crashed_server_is_started_again(stub_stack: StubStack) -> None:
    stub_stack.make().start()
    before = read_pids(stub_stack)["console"]
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: read_pids(stub_stack)["console"] not in (before, None))


def test_a_start_after_supervisord_was_killed_ends_what_it_left_and_comes_up(
    stub_stack: StubStack, events: list[str], say: Say
) -> None:
    addresses = stub_stack.make().start()
    left = [pid for pid in read_pids(stub_stack).values() if pid is not None]
    os.kill(read_supervisor_pid(stub_stack), signal.SIGKILL)
    wait_until(lambda: stub_stack.make().status() == [])
    assert all(is_alive(pid) for pid in left)

    again = stub_stack.make().start(say)

    assert again == addresses
    assert "ending 5 processes of a stack that was not stopped in order" in events
    assert not any(is_alive(pid) for pid in left)
    assert stub_stack.notes[9] == "mongod stopped"


def test_a_stop_after_supervisord_was_killed_ends_also_what_was_restarted_since(stub_stack: StubStack) -> None:
    stub_stack.make().start()
    before = read_pids(stub_stack)["console"]
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: read_pids(stub_stack)["console"] not in (before, None))
    left = [pid for pid in read_pids(stub_stack).values() if pid is not None]
    os.kill(read_supervisor_pid(stub_stack), signal.SIGKILL)

    assert stub_stack.make().stop()

    assert not any(is_alive(pid) for pid in left)
    assert not stub_stack.make().stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_waiting_program_stops_the_stack_in_order(
    stub_stack: StubStack, number: signal.Signals
) -> None:
    script = (
        "import sys; from pathlib import Path; from sync.settings import Home\n"
        "from tests.sync.services.stub_stack import StubStack\n"
        "stack = StubStack(Home(Path(sys.argv[1]))).make()\n"
        "try:\n"
        "    with stack.running():\n"
        "        print('up', flush=True); stack.wait()\n"
        "except KeyboardInterrupt: pass"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(stub_stack.home.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
        # A shell in the background lets its children ignore Ctrl-C; a terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as terminal:
        assert terminal.stdout is not None
        assert terminal.stderr is not None
        assert terminal.stdout.readline() == b"up\n"
        terminal.send_signal(number)
        messages = terminal.stderr.read()
        assert terminal.wait(20) == 0, messages
    assert stub_stack.make().status() == []
    assert stub_stack.notes[-1] == "mongod stopped"


def test_waiting_ends_when_the_stack_is_stopped_elsewhere(
    stub_stack: StubStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_module, "WATCH_S", 0.05)
    stack = stub_stack.make()
    stack.start()
    stub_stack.make().stop()
    stack.wait()
    assert not stack.stop()


def test_a_curators_server_needs_a_running_stack(stub_stack: StubStack) -> None:
    with pytest.raises(ServiceError, match="the stack does not run, start it first: labelloop up"):
        stub_stack.make().start_app("Ana")


def test_secrets_and_control_files_are_for_their_owner_alone(stub_stack: StubStack) -> None:
    addresses = stub_stack.make().start()
    home = stub_stack.home
    private = [
        *home.secrets.iterdir(),
        *(home.run / name for name in ("supervisord.conf", "programs.json", "stack.json")),
    ]
    made = {"admin_password", "console_token", "webhook_secret", "ml_backend_password"}
    made |= {"console_password", "console_session_key"}
    assert {path.name for path in home.secrets.iterdir()} == made
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}

    password = (home.secrets / "admin_password").read_text(encoding="utf-8").strip()
    told = requests.get(f"{addresses.label_studio}/LABEL_STUDIO_PASSWORD", timeout=5).text
    elsewhere = [*home.run.rglob("*"), *home.logs.rglob("*")]
    assert told == password
    assert not [path for path in elsewhere if path.is_file() and password in path.read_text(encoding="utf-8")]
    assert not [
        process for process in psutil.process_iter(["cmdline"]) if password in " ".join(process.info["cmdline"] or [])
    ]


def test_a_variable_of_another_label_studio_in_the_shell_does_not_reach_the_servers(
    stub_stack: StubStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "of-another-server")
    monkeypatch.setenv("NO_PROXY", "intranet")
    addresses = stub_stack.make().start()
    assert requests.get(f"{addresses.console}/LABEL_STUDIO_API_KEY", timeout=5).text == ""
    assert requests.get(f"{addresses.console}/NO_PROXY", timeout=5).text == "intranet,127.0.0.1,localhost"
    assert requests.get(f"{addresses.console}/LABEL_STUDIO_URL", timeout=5).text == addresses.label_studio


def test_an_external_database_needs_no_mongod(stub_stack: StubStack) -> None:
    uri = "mongodb://user:p%40ss@db.example:27017/?tls=true"
    stub_stack.settings = replace(stub_stack.settings, database_uri=uri)
    addresses = stub_stack.make().start()
    assert set(read_pids(stub_stack)) == SERVERS - {"mongod"}
    assert addresses.database_uri == uri
    assert requests.get(f"{addresses.app}/FIFTYONE_DATABASE_URI", timeout=5).text == uri


def test_other_settings_do_not_reach_a_running_server_unsaid(
    stub_stack: StubStack, events: list[str], say: Say
) -> None:
    addresses = stub_stack.make().start()
    stub_stack.settings = replace(stub_stack.settings, model="yolo11x")
    stub_stack.make().start(say)
    assert events == ["ml-backend: runs with other settings, to apply the new ones: labelloop down, then labelloop up"]
    assert requests.get(f"{addresses.ml_backend}/LABELLOOP_MODEL", timeout=5).text == "yolo11n"


@pytest.mark.parametrize("name", ["../x", "a/b", ".ana", "", "a\nb", "--"])
def test_a_curators_name_that_is_none_is_refused_and_becomes_no_other_one(stub_stack: StubStack, name: str) -> None:
    with pytest.raises(LabelingError, match=r"curator .*(expected a name of letters|needs at least one letter)"):
        stub_stack.make().start_app(name)
