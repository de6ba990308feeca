"""What a notebook does around its experiment: its beginning, how it shows errors, what its run found."""

import os
import re
from typing import Any

import joblib
import matplotlib
import pandas as pd
import torch
from IPython import get_ipython
from IPython.display import Markdown, display

from kdlib.editions import study_of
from kdlib.errors import KdlibError, SettingError, nearest
from kdlib.profiles import Profile
from kdlib.report import tables
from kdlib.storage.records import Record
from kdlib.storage.runs import Replicate, Results
from kdlib.study import PUBLISHED

DIGITS = "Handwritten digits, not CIFAR-10: this run shows that everything works, and tells nothing about distillation."


def begin(profile: str | None, seed: int, **changes: float | None) -> Replicate:
    """Say what kind of run the notebook shows; return the replicate of its parameters (``changes``: `Profile.change`).

    From here on pictures are shown inline, whatever ``MPLBACKEND`` or a matplotlibrc say, and errors of kdlib as the
    sentence that they are. Raises `SettingError` if a parameter is out of range, or none of the notebook's.
    """
    shell = get_ipython()
    shell.set_custom_exc((KdlibError, KeyboardInterrupt), _show_error)
    torch.set_num_threads(min(torch.get_num_threads(), joblib.cpu_count()))
    matplotlib.rcdefaults()
    shell.run_line_magic("matplotlib", "inline")
    known = _assigned(shell.user_ns["In"], "# Change a line")
    for name in _assigned(shell.user_ns["In"], "# Parameters"):  # the cell that papermill adds
        if name not in known:
            raise SettingError(f"{name} is no parameter of this notebook{nearest(name, known)}")
    replicate = Replicate(study_of(profile or os.environ.get("KDLIB_PROFILE", "")).profile(profile, **changes), seed)
    display(_banner(replicate.profile))
    return replicate


def _assigned(cells: list[str], opening: str) -> list[str]:
    """The names to which the cells with this opening assign a value."""
    return [name for cell in cells if cell.startswith(opening) for name in re.findall(r"^(\w+) =", cell, re.MULTILINE)]


def _banner(profile: Profile) -> Markdown:
    """What kind of run a notebook shows, so that nobody takes its numbers for others."""
    whose = {PUBLISHED: "the published run", "tuning": "the tuning, on held-out training images"}
    whose = whose.get(profile.name, f"your run, profile `{profile.name}`")
    standard = study_of(profile.name).profile(profile.name)  # of the teacher, say, of a changed student
    epochs = f"{standard.teacher.epochs} epochs for the teacher, {standard.scratch.epochs} for each student"
    text = f"Shown is **{whose}**: {epochs}, {standard.hint.epochs} more for stage one."
    changes = ", ".join(f"{name} {value:g}" for name, value in profile.changes)
    more = f" **Changed: {changes}**; stored under a name of its own." if changes else ""
    return Markdown(f"> {f'⚠️ **{DIGITS}** ' if profile.dataset == 'digits' else ''}{text}{more}")


def _show_error(shell: Any, kind: type, error: BaseException, trace: Any, tb_offset: int | None = None) -> None:
    """Show an error that the user can put right as its sentence."""
    again = "Interrupted. Run the cell again: a training goes on from its last epoch."
    shell._showtraceback(kind, error, [again if kind is KeyboardInterrupt else str(error)])


def found(replicate: Replicate, record: Record) -> pd.DataFrame:
    """What this replicate found of the arm of ``record``, a variant perhaps: its contrasts with arms of the note."""
    study, arm = replicate.study, replicate.study.arm(record.run).name
    standard = Replicate(study.profile(replicate.profile.name), replicate.seed, study)  # without changes
    runs = {name: made for name, made in standard.records().items() if name in study.core} | {arm: record}
    return tables.contrasts(Results(study, {replicate.seed: runs}), among=(arm,))
