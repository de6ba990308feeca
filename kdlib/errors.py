"""Errors that a user can put right: each is a sentence with the next step. Only these may lose their traceback."""

import contextlib
import difflib
import sys
from collections.abc import Iterable, Iterator


class KdlibError(Exception):
    """What all errors of this package have in common."""


class SettingError(KdlibError, ValueError):
    """A setting, a name or a combination of them that cannot be."""


class StorageError(KdlibError):
    """A file could not be written, or is damaged."""


class BusyError(KdlibError):
    """Another process holds a lock."""


class NotTrained(KdlibError):
    """A network is asked for that no notebook has trained yet."""


class TrainingError(KdlibError):
    """Training cannot start, go on or be used again."""


class DataUnavailable(KdlibError):
    """No source has the data set."""


def nearest(name: str, known: Iterable[str]) -> str:
    """How a sentence about an unknown name ends: with the most similar known one, else with all of them."""
    similar = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {similar[0]}?" if similar else f": choose one of {', '.join(known)}."


@contextlib.contextmanager
def as_sentences() -> Iterator[None]:
    """End a command with the sentence of an error that its user can put right, without a traceback."""
    try:
        yield
    except KdlibError as error:
        sys.exit(str(error))
