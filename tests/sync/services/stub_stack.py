"""Stacks of stub servers under the real supervisord, which start in a tenth of a second."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sync.services import programs
from sync.services.programs import Program, StackSettings
from sync.services.stack import Stack
from sync.settings import Home

STUB = Path(__file__).with_name("stub_server.py")
ANY_PORTS: Mapping[str, int | None] = dict.fromkeys(programs.DEFAULT_PORTS)


@dataclass
class StubStack:
    """Makes stacks of stub servers in one home.

    `faults` tells which server misbehaves, and how; the servers named in `real` are the real ones.
    """

    home: Home
    settings: StackSettings = field(default_factory=lambda: StackSettings(ports=ANY_PORTS))
    faults: dict[str, str] = field(default_factory=dict)
    start_timeout_s: float = 20.0
    real: frozenset[str] = frozenset()

    @property
    def notes(self) -> list[str]:
        """What the servers noted, in order."""
        return self._notes_path.read_text(encoding="utf-8").splitlines() if self._notes_path.exists() else []

    @property
    def _notes_path(self) -> Path:
        return self.home.path / "notes.txt"

    def make(self) -> Stack:
        """Return one more Stack on the home, as another terminal would have it."""
        return Stack(self.home, self.settings, plan=self.plan)

    def plan(self, home: Home, settings: StackSettings, ports: Mapping[str, int]) -> list[Program]:
        """Return the programs of a real stack, each with the stub in its place."""
        return [self._stand_in(program) for program in programs.plan_programs(home, settings, ports)]

    def _stand_in(self, program: Program) -> Program:
        if program.name in self.real:
            return program
        fault = [self.faults[program.name]] if program.name in self.faults else []
        argv = (sys.executable, str(STUB), program.name, str(program.port), str(self._notes_path), *fault)
        return replace(program, argv=argv, start_timeout_s=self.start_timeout_s, stop_timeout_s=2)
