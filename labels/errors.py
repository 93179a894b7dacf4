"""Every error a person can fix, in one tree.

LabelingError            anything a person can fix; the command line and the servers print it as one line
├── LabelConfigError     label_config.xml is wrong, or does not know a label
├── ItemError            one image, task or sample cannot be used; carries its id, the job goes on and reports it
└── ServiceError         Label Studio, MongoDB or the ML backend answered no, or did not answer
"""

from __future__ import annotations


class LabelingError(Exception):
    """Anything a person can fix; its text is one line."""


class LabelConfigError(LabelingError):
    """The label config is wrong, or does not know a label."""


class ItemError(LabelingError):
    """One image, task or sample cannot be used; the job goes on without it and reports it.

    >>> str(ItemError("task 41", "label 'Forklift' is not in label_config.xml"))
    "task 41: label 'Forklift' is not in label_config.xml"
    """

    def __init__(self, item: str, problem: str) -> None:
        super().__init__(f"{item}: {problem}")
        self.item = item
        self.problem = problem


class ServiceError(LabelingError):
    """Label Studio, MongoDB or the ML backend answered no, or did not answer."""
