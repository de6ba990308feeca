"""Executing one notebook, as a job of the graph.

python -m kdlib.report.execute NOTEBOOK OUTPUT SEEDS EXTRA [name=value …]    with these parameters

It imports little, as its notebook's own process imports everything again.
"""

import itertools
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from kdlib.design import Study
from kdlib.storage import folders
from kdlib.study import EXTENDED, STUDY


class Failed(RuntimeError):
    """A notebook or the graph failed. The message says why, which one, and where its copy lies."""


def failures(profile_name: str) -> Path:
    """Where notebooks that failed leave their message."""
    return folders.build(profile_name) / "failed.log"


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
        where = f"Its copy: {unfinished}; full tracebacks: {folders.error_log()}"
        message = f"{sentence}\n{notebook.name}{seed} failed. {where}"
        # Other notebooks may still print: `graph.report` says it again when all have ended.
        with failures(profile).open("a", encoding="utf-8") as file:
            file.write(f"{message}\n")
        raise Failed(message) from None
    unfinished.replace(output)


def _time_left(profile_name: str, seeds: int, study: Study) -> str:
    """About how long the rest of the report will take, from the notebooks that have run; "" before the first."""
    profile, build = study.profile(profile_name), folders.build(profile_name)
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


def main(notebook: str, output: str, seeds: str, extra: str, *parameters: str) -> None:
    """See the module's documentation."""
    values: dict[str, str | int] = dict(word.split("=", 1) for word in parameters)
    if "seed" in values:
        values["seed"] = int(values["seed"])
    run(Path(notebook), Path(output), int(seeds), extra == "1", values)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, Failed) as error:
        sys.exit(str(error))
