"""What is set once for a process that runs models, for all its threads; nothing of it knows a model or a request."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SWITCH_INTERVAL_S: Final = 0.001


def spare_the_cores() -> None:
    """Have torch's threads sleep when there is nothing to do; to be called before torch is imported.

    By default they spin, and where anything else runs beside them (our readers, Label Studio), they keep each other
    from working: ten times slower on a busy machine of two cores.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def keep_answering() -> Iterator[None]:
    """Have no thread keep the others waiting for long; to be entered when the libraries are imported.

    A thread that computes hands over after a millisecond, not five: a request changes threads several times. And what
    is imported by now is no more looked through for garbage, which takes a fifth of a second in which nobody is
    answered.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        # Some libraries complain, when the interpreter goes, of what is not let go.
        gc.unfreeze()
        sys.setswitchinterval(usual)
