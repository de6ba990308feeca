"""Where things lie: the project's folder, and what each profile leaves there."""

import os
from pathlib import Path

from kdlib.settings import COMMITTED


def root() -> Path:
    """The project's folder: ``KDLIB_ROOT`` if set, else the one that holds the package."""
    return Path(os.environ.get("KDLIB_ROOT") or Path(__file__).parents[2]).resolve()


def build(profile_name: str) -> Path:
    """Where everything goes that running a profile makes."""
    return root() / "build" / profile_name


def results(profile_name: str) -> Path:
    """Where records and weights lie: in ``results/`` if they are committed, else in the build folder."""
    if profile_name in COMMITTED:
        return root() / "results" / COMMITTED[profile_name]
    return build(profile_name) / "results"


def error_log() -> Path:
    """Where the full tracebacks of errors in notebooks are kept."""
    return root() / "build" / "errors.log"
