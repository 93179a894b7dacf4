"""What the App hands to a panel, without an App."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class State(dict[str, Any]):
    """The state of a panel, by name; what is not there is None."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def open_panel(dataset: Any, view: Any = None) -> tuple[Any, list[tuple[str, Any]]]:
    """Return the context a panel acts in, and the forms that it opens: each operator's name with its parameters."""
    forms: list[tuple[str, Any]] = []
    panel = SimpleNamespace(state=State(), set_state=lambda _values: None)
    ops = SimpleNamespace(
        notify=lambda text, variant: forms.append((variant, text)), show_panel_output=lambda _output: None
    )

    def prompt(operator: str, params: Any = None, on_success: Any = None) -> None:
        assert on_success is not None
        forms.append((operator, params))

    return SimpleNamespace(
        dataset=dataset, view=view, selected=[], panel=panel, panel_id="p1", ops=ops, prompt=prompt, params={}
    ), forms
