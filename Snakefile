# The report as a graph: trainings, each one arm of one seed, and the notebooks that show them. `make report` runs it here;
# the same file runs on a cluster through Snakemake's executor plugins (the book's page "Running it elsewhere").
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


NOTEBOOKS = [name for name in STUDY.notebooks if name < ANALYSIS]  # of each seed
COMPARISONS = [ANALYSIS, *(name for name in STUDY.notebooks if name > ANALYSIS and EXTRA)]  # of all seeds
EXECUTED = expand(f"{BUILD}/seed{{seed}}/{{name}}.ipynb", seed=SEEDS, name=NOTEBOOKS)
EXECUTED += expand(f"{BUILD}/{{name}}.ipynb", name=COMPARISONS)
# What is newer than a result is run again, and the records decide whether anything is trained anew; trainings do not
# depend on kdlib/report.
KDLIB = sorted(map(str, Path(f"{HOME}kdlib").rglob("*.py")))
SHOWN = "book/*.*", "README.md", "figures/*.png", "benchmarks/*.png", "notebooks/*.ipynb"  # by the book
METHOD = [path for path in KDLIB if Path(path).parent.name != "report"]


def trained(seed, arms):
    """The marks of finished trainings. A training is not known by its record, which Snakemake would delete before it
    trained again."""
    return [f"{BUILD}/trained/seed{seed}/{arm}" for arm in arms]


def compared(notebook):
    """The arms that a notebook compares: its own, and those before it."""
    return [arm.name for arm in STUDY.arms if arm.notebook <= notebook]


CLUSTER = workflow.remote_exec or workflow.resource_settings.nodes


def alone(wildcards):
    """Threads of a training here. Two trainings with a thread each are faster than one after the other with two; but
    the others wait for their seed's teacher, so the cores are divided among the teachers."""
    cores = workflow.resource_settings.cores or 1
    return max(1, cores // len(SEEDS) // (1 if STUDY.arm(wildcards.arm).stage == "teacher" else 2))


# On a cluster it is a fixed number: SLURM refuses a job that asks for more from inside than it was submitted with.
THREADS = 1 if PROFILE == "smoke" else 8 if CLUSTER else alone


def urgency(wildcards):
    """Trainings go before notebooks, and before other trainings those that some wait for."""
    return 2 if any(wildcards.arm in arm.needs for arm in STUDY.arms) else 1


# What a training asks a cluster for; gpus=0 is for one without. A job that has asked for a GPU must not do without.
GPUS = int(config.get("gpus", 1))
if workflow.remote_exec and GPUS:
    os.environ.setdefault("KDLIB_DEVICE", "cuda")

# Everything runs in the environment that Snakemake runs in, whether that is activated or not.
PYTHON = shlex.quote(sys.executable).replace("{", "{{").replace("}", "}}")
RUN = f"{PYTHON} -m kdlib.report.run"


wildcard_constraints:
    seed=r"\d+",
    name="|".join(NOTEBOOKS + COMPARISONS),
    arm=r"\w+",


# On a cluster these run where the command was given: compute nodes often have no network, and building the book is quick.
localrules:
    report,
    data,
    book,


# The messages are for a cluster, where what a training prints goes to its job's log.
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


rule training:
    input:
        f"{BUILD}/data.ready",
        METHOD,
        lambda wildcards: trained(wildcards.seed, STUDY.arm(wildcards.arm).needs),
    output:
        touch(f"{BUILD}/trained/seed{{seed}}/{{arm}}"),
    log:
        f"{BUILD}/trained/seed{{seed}}/{{arm}}.log",
    message:
        "{wildcards.arm}, seed {wildcards.seed}"
    priority: urgency
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=6000,
        runtime=240,  # minutes
    shell:
        f"{PYTHON} -m kdlib.arms {PROFILE} {{wildcards.seed}} {{wildcards.arm}} 2> {{log:q}}"


rule notebook:
    input:
        KDLIB,
        lambda wildcards: trained(wildcards.seed, [arm.name for arm in STUDY.trained_in(wildcards.name)]),
        notebook=f"{HOME}notebooks/{{name}}.ipynb",
    output:
        f"{BUILD}/seed{{seed}}/{{name}}.ipynb",
    message:
        "{wildcards.name}, seed {wildcards.seed}"
    resources:
        gpu=GPUS,  # like the trainings, whose precision depends on it
        mem_mb=6000,
        runtime=30,
    shell:
        f"{RUN} notebook {{input.notebook:q}} {{output:q}} profile={PROFILE} seed={{wildcards.seed}}"


rule comparison:
    input:
        KDLIB,
        lambda wildcards: [mark for seed in SEEDS for mark in trained(seed, compared(wildcards.name))],
        notebook=f"{HOME}notebooks/{{name}}.ipynb",
    output:
        f"{BUILD}/{{name}}.ipynb",
    message:
        "{wildcards.name}"
    resources:
        gpu=GPUS,
        mem_mb=6000,
        runtime=30,
    shell:
        f"{RUN} notebook {{input.notebook:q}} {{output:q}} profile={PROFILE}"


rule book:
    input:
        EXECUTED,
        [str(path) for kind in SHOWN for path in Path(HOME or ".").glob(kind)],
    output:
        f"{BUILD}/html/index.html",
    message:
        "the book"
    shell:
        f"{PYTHON} {shlex.quote(f'{HOME}book/build.py')} {PROFILE}"
