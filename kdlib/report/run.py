"""Running the notebooks: one of them through papermill, or all of them as the graph of the Snakefile.

python -m kdlib.report.run report [NAME=VALUE …]               PROFILE, SEEDS, CORES, EXTRA; then the summary
python -m kdlib.report.run notebook FILE OUTPUT [name=value …]  one notebook, with these parameters
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import joblib
import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from kdlib.errors import DataUnavailable, KdlibError, SettingError, as_sentences, nearest

# The rest of kdlib is imported where it is needed: a job executes a notebook, whose own process imports it again.
OPTIONS = {"PROFILE": "", "SEEDS": "1", "CORES": "", "EXTRA": "0"}  # of `make report`, with their defaults
SET_UP = ("PYTHON", "UV", "TORCH_BACKEND")  # of the Makefile alone
KILLED = "The process was killed, perhaps for want of memory."
UNFINISHED = ".unfinished.ipynb"  # a notebook gets its name when it has ended well


class Failed(KdlibError):
    """A notebook or the graph failed. The message says why and where to look."""


def report(options: Mapping[str, str]) -> str:
    """Run the notebooks of a profile, with EXTRA=1 those beyond the note too, and return the closing summary.

    Raises `SettingError` for an option that cannot be, `DataUnavailable`, or `Failed`: a training or notebook failed,
    or the user interrupted; the same command goes on from there.
    """
    _keep_caches()
    given = _given(options)
    profile = data(given["PROFILE"] or os.environ.get("KDLIB_PROFILE"))
    _graph(profile, given)
    return summary(profile)


def _keep_caches() -> None:
    """Where the user has no home that can be written, as in a container, caches of data and graph go below build/."""
    from kdlib.storage import files

    if not os.access(Path.home(), os.W_OK):
        os.environ.setdefault("XDG_CACHE_HOME", str(files.root() / "build" / "cache"))


def _given(options: Mapping[str, str]) -> dict[str, str]:
    """All options of `make report`, checked."""
    for name in options:
        if name not in {*OPTIONS, *SET_UP}:
            raise SettingError(f"make report has no option {name}{nearest(name, OPTIONS)}")
    given = {**OPTIONS, "CORES": str(joblib.cpu_count()), **options}
    for name, least in (("SEEDS", 1), ("CORES", 1), ("EXTRA", 0)):
        if not given[name].isdecimal() or int(given[name]) < least:
            raise SettingError(f"{name} must be a whole number of at least {least}, not {given[name]!r}.")
    return given


def _graph(profile: str, given: Mapping[str, str]) -> None:
    """Run the Snakefile. Raises `Failed`."""
    from kdlib.storage import files

    folder = files.build(profile)
    log = folder / "snakemake.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    for old in [*folder.rglob(f"*{UNFINISHED}"), *folder.glob("trained/*/*.log")]:
        old.unlink()
    for mark in folder.glob("trained/*/*"):  # a record that was deleted is to be made anew
        if not (files.results(profile) / mark.parent.name / f"{mark.name}.json").exists():
            mark.unlink()
    command = [sys.executable, "-m", "snakemake", "report", "--cores", given["CORES"], "--rerun-incomplete", "--nolock"]
    command += ["--snakefile", str(files.CHECKOUT / "Snakefile"), "--config", f"profile={profile}"]
    command += [f"seeds={given['SEEDS']}", f"extra={given['EXTRA']}"]
    environment = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
    try:
        with log.open("w") as file:  # the graph's own messages: for those who look for them
            code = subprocess.run(command, stderr=file, cwd=files.root(), env=environment).returncode
    except KeyboardInterrupt:
        raise Failed("Interrupted: the same command goes on from here.") from None
    failed = [_reason(path) for path in sorted(folder.rglob(f"*{UNFINISHED}"))]
    if code:
        logs = [path for path in sorted(folder.glob("trained/*/*.log")) if not path.with_suffix("").exists()]
        failed += [f"{path.read_text('utf-8').strip() or KILLED}\n{path.stem} failed. Its log: {path}" for path in logs]
    if failed:
        raise Failed("\n\n".join(failed))
    if code:
        raise Failed(f"Not everything was run: the same command goes on from here. The graph's log: {log}")


def data(name: str | None) -> str:
    """The profile to run, its data at hand: ``name``, else "quick", else "smoke" if CIFAR-10 is out of reach."""
    from kdlib.report.notebook import DIGITS
    from kdlib.storage.runs import Replicate
    from kdlib.study import PUBLISHED, STUDY

    profile = STUDY.profile(name or "quick")
    if profile.name == PUBLISHED:
        raise SettingError("The published records are read without a command: choose the profile full to train them.")
    try:
        Replicate(profile).data("cpu")
    except DataUnavailable as error:
        if name or os.environ.get("KDLIB_DATA"):
            raise
        print(f"{error}\n\n{'=' * 100}\n{DIGITS}\n{'=' * 100}\n", file=sys.stderr)
        return "smoke"
    return profile.name


def notebook(source: Path, output: Path, parameters: Mapping[str, str | int]) -> None:
    """Execute a notebook; what it prints goes to the terminal, its executed copy to ``output``. Raises `Failed`."""
    print(f"--- {source.stem}" + (f", seed {parameters['seed']}" if "seed" in parameters else ""), flush=True)
    unfinished = output.with_suffix(UNFINISHED)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            nbformat.read(source, as_version=4), unfinished, parameters, kernel_name="python3", progress_bar=False,
            stdout_file=sys.stdout, start_timeout=300, coalesce_streams=True,
        )  # fmt: skip
    except (PapermillExecutionError, DeadKernelError):
        raise Failed(_reason(unfinished)) from None
    except RuntimeError as error:  # the kernel did not start in time
        raise Failed(f"{source.stem}: {error}. Give the same command again when the disk is less busy.") from None
    unfinished.replace(output)


def _reason(unfinished: Path) -> str:
    """Why a notebook did not end well, from its unfinished copy."""
    cells = nbformat.read(unfinished, as_version=4).cells
    errors = [out.evalue for cell in cells for out in cell.get("outputs", []) if out.output_type == "error"]
    return (
        f"{errors[-1] if errors else KILLED}\n{unfinished.name.removesuffix(UNFINISHED)} failed. Its copy: {unfinished}"
    )


def summary(profile_name: str) -> str:
    """What a run found: accuracies, contrasts, and one's own accuracies beside those that are expected."""
    from kdlib.report import tables
    from kdlib.report.notebook import DIGITS
    from kdlib.storage import files, runs
    from kdlib.study import STUDY

    profile = STUDY.profile(profile_name)
    everything, folder = runs.load_all(profile), files.build(profile.name)
    parts = [DIGITS] if profile.dataset == "digits" else []
    models = tables.summary(everything.core).filter(["seeds", *tables.ACCURACIES])
    parts.append(f"Profile {profile.name}, {len(everything.by_seed)} seed(s)\n{models.to_string()}")
    parts.append(f"What this run found\n{tables.contrasts(everything).to_string()}")
    expected = files.CHECKOUT / "results" / f"{profile.name}.csv"
    if expected.exists():
        parts.append(f"Yours beside an earlier {profile.name} run\n{tables.expected(everything, expected).to_string()}")
    return "\n\n".join([*parts, f"Book     {folder}/html/index.html\nRecords  {folder}/results"])


def main(*words: str) -> None:
    """See the module's documentation."""
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    match [word for word in words if "=" not in word]:
        case ["report"]:
            print(report(pairs))
        case ["notebook", source, output]:
            parameters = {key: int(value) if value.isdecimal() else value for key, value in pairs.items()}
            notebook(Path(source), Path(output), parameters)
        case _:
            raise SettingError(__doc__)


if __name__ == "__main__":
    with as_sentences():
        main(*sys.argv[1:])
