# The report as a graph: which notebook needs which. `make report` runs it here; the same file runs on a cluster through
# Snakemake's executor plugins (the book's page "Running it elsewhere").
import os
import shlex
import sys
from pathlib import Path

from kdlib.study import ANALYSIS, STUDY

PROFILE = config.get("profile", "quick")
SEEDS = range(int(config.get("seeds", 1)))
EXTRA = int(config.get("extra", 0))
BUILD = f"build/{PROFILE}"

# Everything is written where KDLIB_ROOT says, and the notebooks stay where they are. Without it, paths are relative: a
# brace in the folder's name would be taken for a wildcard.
HOME = ""
if os.environ.get("KDLIB_ROOT"):
    HOME = f"{workflow.basedir}/"

    workdir: os.environ["KDLIB_ROOT"]


NOTEBOOKS = [name for name in STUDY.notebooks if name < ANALYSIS or EXTRA]
REPLICATES = expand(f"{BUILD}/seed{{seed}}/{{name}}.ipynb", seed=SEEDS, name=NOTEBOOKS)
COMPARED = f"{BUILD}/{ANALYSIS}.ipynb"
# Notebooks are executed again after a change of kdlib; their records decide what is trained again.
KDLIB = sorted(map(str, Path(f"{HOME}kdlib").rglob("*.py")))


def before(name, seed):
    """The executed notebooks that one needs. Those beyond the note compare with all that the note's own train, and show
    all seeds, so that their first copy comes last."""
    needs = {STUDY.arm(need).notebook for arm in STUDY.trained_in(name) for need in arm.needs}
    needs |= {other for other in NOTEBOOKS if other < ANALYSIS < name}
    others = SEEDS[1:] if name > ANALYSIS and int(seed) == 0 else []
    return [f"{BUILD}/seed{seed}/{need}.ipynb" for need in sorted(needs - {name})] + [
        f"{BUILD}/seed{other}/{name}.ipynb" for other in others
    ]


# One training fills the machine, and several at once only slow each other; but not with images as few as the digits.
# On a cluster it is a fixed number: SLURM refuses a job that asks for more from inside than it was submitted with.
CLUSTER = workflow.remote_exec or workflow.resource_settings.nodes
THREADS = 1 if PROFILE == "smoke" else (not CLUSTER and workflow.resource_settings.cores) or 8

# What a training asks a cluster for; gpus=0 is for one without. A job that has asked for a GPU must not do without.
GPUS = int(config.get("gpus", 1))
if workflow.remote_exec and GPUS:
    os.environ.setdefault("KDLIB_DEVICE", "cuda")

# Everything runs in the environment that Snakemake runs in, whether that is activated or not.
PYTHON = shlex.quote(sys.executable).replace("{", "{{").replace("}", "}}")
RUN = f"{PYTHON} -m kdlib.report.run"


wildcard_constraints:
    seed=r"\d+",
    name="|".join(NOTEBOOKS),


# On a cluster these run where the command was given: compute nodes often have no network, and pages need no queue.
localrules:
    report,
    data,
    book,


# The messages are for a cluster, where what a notebook prints goes to its job's log.
rule report:
    input:
        f"{BUILD}/html/index.html",
    message:
        "the report is complete"


rule data:
    output:
        touch(f"{BUILD}/data.ready"),
    message:
        "the data set"
    shell:
        f"{PYTHON} -m kdlib.storage.cifar10 > {os.devnull}" if STUDY.profile(PROFILE).dataset != "digits" else "true"


rule notebook:
    input:
        f"{BUILD}/data.ready",
        KDLIB,
        lambda wildcards: before(wildcards.name, wildcards.seed),
        notebook=f"{HOME}notebooks/{{name}}.ipynb",
    output:
        f"{BUILD}/seed{{seed}}/{{name}}.ipynb",
    message:
        "{wildcards.name}, seed {wildcards.seed}"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=6000,
        runtime=240,  # minutes
    shell:
        f"{RUN} notebook {{input.notebook:q}} {{output:q}} profile={PROFILE} seed={{wildcards.seed}}"


rule analysis:
    input:
        KDLIB,
        REPLICATES,
        notebook=f"{HOME}notebooks/{ANALYSIS}.ipynb",
    output:
        COMPARED,
    message:
        ANALYSIS
    resources:
        mem_mb=3000,
        runtime=30,
    shell:
        f"{RUN} notebook {{input.notebook:q}} {{output:q}} profile={PROFILE}"


rule book:
    input:
        REPLICATES,
        COMPARED,
        [str(path) for path in Path(f"{HOME}book").glob("*.*")],
    output:
        f"{BUILD}/html/index.html",
    message:
        "the book"
    shell:
        f"{PYTHON} {shlex.quote(f'{HOME}book/build.py')} {PROFILE}"
