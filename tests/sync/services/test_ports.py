"""Which loopback ports the stack uses."""

from __future__ import annotations

import os
import socket

from sync.services.ports import PortPlan, find_free_port, is_free, is_listening, plan_ports


def test_a_port_somebody_listens_on_is_not_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_free(port)
        assert is_listening(os.getpid(), port)
    assert is_free(port)
    assert not is_listening(os.getpid(), port)


def test_the_last_port_comes_before_the_preferred_one() -> None:
    last, preferred = find_free_port(), find_free_port()
    assert plan_ports({"app": preferred}, last={"app": last}, fixed={}) == PortPlan(ports={"app": last}, notes=())
    assert plan_ports({"app": preferred}, last={}, fixed={}) == PortPlan(ports={"app": preferred}, notes=())


def test_a_running_program_keeps_its_port_and_nobody_else_gets_it() -> None:
    port = find_free_port()
    plan = plan_ports({"app": port, "console": port}, last={}, fixed={"app": port})
    assert plan.ports["app"] == port
    assert plan.ports["console"] != port
    assert plan.notes == (f"port {port} is taken by another program, console uses {plan.ports['console']}",)


def test_a_program_that_takes_any_port_says_nothing_about_it() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        plan = plan_ports({"mongod": None}, last={"mongod": server.getsockname()[1]}, fixed={})
    assert plan.notes == ()
