"""`make report`: runs the graph of notebooks, which is in the Snakefile."""

import os
import subprocess
import sys
from collections.abc import Mapping

from kdlib.checks import nearest, whole_number
from kdlib.report import execute, publish
from kdlib.report.execute import Failed
from kdlib.storage import folders
from kdlib.study import EXTENDED, STUDY

OPTIONS = ("PROFILE", "SEEDS", "CORES", "EXTRA")  # of `make report`
SET_UP = ("PYTHON", "UV", "TORCH_BACKEND")  # of the Makefile alone


def report(options: Mapping[str, str]) -> str:
    """Run the notebooks of a profile, the six of the note or all, and return the closing summary.

    Of the ``options``, PROFILE is as for `publish.choose`; SEEDS (default 1) and CORES (default all) are numbers; EXTRA
    is 1 for the notebooks beyond the note too, else 0.

    Raises:
        ValueError: an unknown option, or a value out of range.
        DataUnavailable: the profile's data cannot be had.
        Failed: a notebook failed, or the user interrupted; the same command goes on from there.
    """
    for name in options:
        if name not in (*OPTIONS, *SET_UP):
            raise ValueError(f"make report has no option {name}{nearest(name, OPTIONS)}")
    seeds = whole_number("SEEDS", _number(options.get("SEEDS", "1")), least=1)
    cores = options.get("CORES", "all")
    cores = cores if cores == "all" else whole_number("CORES", _number(cores), least=1)
    extra = whole_number("EXTRA", _number(options.get("EXTRA", "0")), most=1)
    profile = publish.choose(options.get("PROFILE") or os.environ.get("KDLIB_PROFILE"))
    log, failures = folders.build(profile) / "snakemake.log", execute.failures(profile)
    log.parent.mkdir(parents=True, exist_ok=True)
    failures.unlink(missing_ok=True)
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--config", f"profile={profile}"]
    command += [f"seeds={seeds}", f"extra={extra}", "--rerun-incomplete", "--nolock"]
    try:
        with log.open("w") as file:  # the graph's own messages: for those who look for them
            code = subprocess.run(command, stderr=file).returncode
    except KeyboardInterrupt:
        raise Failed("Interrupted: the same command goes on from here.") from None
    if failures.exists():
        raise Failed(failures.read_text("utf-8").rstrip())
    if code:
        raise Failed(f"The report is not complete: the same command goes on from here. The graph's log: {log}")
    return publish.summary(profile, EXTENDED if extra else STUDY)


def _number(text: str) -> float | str:
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() else value
