# The report as a graph: which notebook needs which. `make report` runs it here; the same file runs on a
# cluster through Snakemake's executor plugins (see the README).
import ast
import os
import shlex
import sys
from pathlib import Path

import nbformat

from kdlib.design import ANALYSIS
from kdlib.study import EXTENDED, STUDY

PROFILE = config.get("profile", "quick")
SEEDS = range(int(config.get("seeds", 1)))
EXTRA = int(config.get("extra", 0))
ROOT = Path(os.environ.get("KDLIB_ROOT") or ".")
BUILD = str(ROOT / "build" / PROFILE)

# Notebooks of one replicate, and those that must have run before.
NEEDS = (EXTENDED if EXTRA else STUDY).graph()
REPLICATES = expand(f"{BUILD}/seed{{seed}}/{{name}}.ipynb", seed=SEEDS, name=NEEDS)
COMPARED = f"{BUILD}/{ANALYSIS}.ipynb"

# Records that no notebook here makes: where they change, the answer at the top of a notebook does.
PUBLISHED = sorted(map(str, (ROOT / "results/full").glob("seed*/*.json")))


def modules(code, seen):
    """The files of kdlib that Python code imports, directly or through one another."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kdlib"):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("kdlib")}
    for name in names:
        file = Path(*name.split(".")).with_suffix(".py")
        if file.is_file() and str(file) not in seen:
            seen |= {str(path) for path in (file, file.with_suffix(".toml")) if path.is_file()}
            modules(file.read_text("utf-8"), seen)
    return seen


def before(name, seed):
    """The executed notebooks that one needs. Those beyond the note show all seeds, so their first copy comes last."""
    others = SEEDS[1:] if name > ANALYSIS and int(seed) == 0 else []
    return [f"{BUILD}/seed{seed}/{need}.ipynb" for need in NEEDS[name]] + [
        f"{BUILD}/seed{other}/{name}.ipynb" for other in others
    ]


def sources(notebook):
    """The files of kdlib on which a notebook depends, so that a change elsewhere does not run it again."""
    cells = nbformat.read(f"notebooks/{notebook}.ipynb", as_version=4).cells
    return sorted(modules("\n".join(cell.source for cell in cells if cell.cell_type == "code"), set()))


# One training fills the machine, and several at once only slow each other; but not with images as few as the digits.
# On a cluster it is a fixed number: SLURM refuses a job that asks for more from inside than it was submitted with.
CLUSTER = workflow.remote_exec or workflow.resource_settings.nodes
THREADS = 1 if PROFILE == "smoke" else (not CLUSTER and workflow.resource_settings.cores) or 8

# What a training asks a cluster for; gpus=0 is for one without. A job that has asked for a GPU must not do without.
GPUS = int(config.get("gpus", 1))
if workflow.remote_exec and GPUS:
    os.environ.setdefault("KDLIB_DEVICE", "cuda")

# Everything runs in the environment that Snakemake runs in, whether that is activated or not.
PYTHON = shlex.quote(sys.executable)

# Executes a notebook; what it prints, such as one line per epoch, goes to the terminal.
RUN = f"{PYTHON} -m kdlib.report.execute {{input.notebook:q}} {{output:q}} {len(SEEDS)} {EXTRA} profile={PROFILE}"


wildcard_constraints:
    seed=r"\d+",
    name="|".join(NEEDS),


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
        f"{BUILD}/data.ready",
    input:
        "kdlib/storage/cifar10.py",
    message:
        "the data set"
    shell:
        f"{PYTHON} -m kdlib.report choose {PROFILE} > {{output:q}}"


rule notebook:
    input:
        f"{BUILD}/data.ready",
        lambda wildcards: before(wildcards.name, wildcards.seed),
        lambda wildcards: sources(wildcards.name),
        PUBLISHED,
        notebook="notebooks/{name}.ipynb",
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
        f"{RUN} seed={{wildcards.seed}}"


rule analysis:
    input:
        REPLICATES,
        sources(ANALYSIS),
        PUBLISHED,
        notebook=f"notebooks/{ANALYSIS}.ipynb",
    output:
        COMPARED,
    message:
        ANALYSIS
    resources:
        mem_mb=3000,
        runtime=30,
    shell:
        RUN


rule book:
    input:
        REPLICATES,
        COMPARED,
        *map(str, Path("book").glob("*")),
        sorted(modules("from kdlib.report import book", set())),
    output:
        f"{BUILD}/html/index.html",
    message:
        "the book"
    shell:
        f"{PYTHON} -m kdlib.report book {PROFILE} > {os.devnull}"
