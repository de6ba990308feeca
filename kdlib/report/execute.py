"""Running the notebooks: `make report` as a whole, and one notebook as a job of the graph."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from kdlib.checks import nearest, whole_number
from kdlib.design import Study
from kdlib.report import cells, publish
from kdlib.storage import runs
from kdlib.study import EXTENDED, STUDY

OPTIONS = ("PROFILE", "SEEDS", "CORES", "EXTRA")  # of `make report`
SET_UP = ("PYTHON", "UV", "TORCH_BACKEND")  # of the Makefile alone


class Failed(RuntimeError):
    """A notebook or the graph failed. The message says why, which one, and where its copy lies."""


def report(options: Mapping[str, str]) -> str:
    """Run the six notebooks of a profile, and return the closing summary.

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
    log, failures = runs.build_folder(profile) / "snakemake.log", _failures(profile)
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


def run(notebook: Path, output: Path, seeds: int, extra: bool, parameters: Mapping[str, str | int]) -> None:
    """Execute one notebook, with "profile" among its ``parameters``, of a report with so many ``seeds``.

    ``extra`` tells whether the report has the notebooks beyond the note.

    What it prints goes to the terminal, its executed copy to ``output``. Raises ``Failed`` if it ended in an error.
    """
    profile, seed = str(parameters["profile"]), f", seed {parameters['seed']}" if "seed" in parameters else ""
    print(f"--- {notebook.stem}{seed}{_time_left(profile, seeds, EXTENDED if extra else STUDY)}", flush=True)
    # A notebook gets its name when it is finished, so that what a failed one leaves is not taken for done.
    unfinished = output.with_suffix(".unfinished.ipynb")
    try:
        papermill.execute_notebook(
            notebook, unfinished, parameters, kernel_name="python3", progress_bar=False, stdout_file=sys.stdout
        )
    except (PapermillExecutionError, DeadKernelError) as error:
        sentence = getattr(error, "evalue", "The notebook's process was killed, perhaps for want of memory.")
        where = f"Its copy: {unfinished}; full tracebacks: {cells.error_log()}"
        message = f"{sentence}\n{notebook.name}{seed} failed. {where}"
        # Other notebooks may still print: `report` says it again when all have ended.
        with _failures(profile).open("a", encoding="utf-8") as file:
            file.write(f"{message}\n")
        raise Failed(message) from None
    unfinished.replace(output)


def _failures(profile_name: str) -> Path:
    """Where notebooks that failed leave their message."""
    return runs.build_folder(profile_name) / "failed.log"


def _time_left(profile_name: str, seeds: int, study: Study) -> str:
    """About how long the rest of the report will take, from the notebooks that have run; "" before the first."""
    profile, build = study.profile(profile_name), runs.build_folder(profile_name)
    epochs = dict.fromkeys(study.notebooks, 0)
    for arm in study.arms:
        epochs[arm.notebook] += arm.schedule(profile).epochs
    done, seconds = 0, 0.0
    for seed, name in itertools.product(range(seeds), study.notebooks):
        path = build / f"seed{seed}" / f"{name}.ipynb"
        if path.exists():
            done += epochs[name]
            seconds += json.loads(path.read_text("utf-8"))["metadata"]["papermill"]["duration"]
    left = seeds * sum(epochs.values()) - done
    return f" (about {max(1, round(left * seconds / done / 60))} min left in all)" if done and left else ""
