# The report as a graph: which notebook needs which. `make report` runs it here; the same file runs on a
# cluster through Snakemake's executor plugins (see the README).
import ast
import os
import shlex
import sys
from pathlib import Path

import nbformat

from kdlib.study import ANALYSIS, STUDY

PROFILE = config.get("profile", "quick")
SEEDS = range(int(config.get("seeds", 1)))
ROOT = Path(os.environ.get("KDLIB_ROOT") or ".")
BUILD = str(ROOT / "build" / PROFILE)

# Notebooks of one replicate, and those that must have run before.
NEEDS = STUDY.graph()
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


def sources(notebook):
    """The files of kdlib on which a notebook depends, so that a change elsewhere does not run it again."""
    cells = nbformat.read(f"notebooks/{notebook}.ipynb", as_version=4).cells
    return sorted(modules("\n".join(cell.source for cell in cells if cell.cell_type == "code"), set()))


# One training fills the machine, and several at once only slow each other; but not with images as few as the digits.
# On a cluster the cores of a machine are not known here.
THREADS = 1 if PROFILE == "smoke" else workflow.resource_settings.cores or 8

# Everything runs in the environment that Snakemake runs in, whether that is activated or not.
PYTHON = shlex.quote(sys.executable)

# Executes a notebook; what it prints, such as one line per epoch, goes to the terminal.
RUN = f"{PYTHON} -m kdlib.report run {{input.notebook:q}} {{output:q}} {len(SEEDS)} profile={PROFILE}"


wildcard_constraints:
    seed=r"\d+",
    name="|".join(NEEDS),


rule report:
    input:
        [path.replace(".ipynb", ".html") for path in [*REPLICATES, COMPARED]],


rule data:
    output:
        f"{BUILD}/data.ready",
    input:
        "kdlib/storage/cifar10.py",
    shell:
        f"{PYTHON} -m kdlib.report choose {PROFILE} > {{output:q}}"


rule notebook:
    input:
        f"{BUILD}/data.ready",
        lambda wildcards: [f"{BUILD}/seed{wildcards.seed}/{name}.ipynb" for name in NEEDS[wildcards.name]],
        lambda wildcards: sources(wildcards.name),
        PUBLISHED,
        notebook="notebooks/{name}.ipynb",
    output:
        f"{BUILD}/seed{{seed}}/{{name}}.ipynb",
    threads: THREADS
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
    shell:
        RUN


rule html:
    input:
        "{path}.ipynb",
    output:
        "{path}.html",
    shell:
        f"{PYTHON} -m nbconvert --to html --log-level ERROR {{input:q}}"
