# The report as a graph: which notebook needs which. `make report` runs it here; the same file runs on a
# cluster through Snakemake's executor plugins (see the README).
import os
import sys
from pathlib import Path

PROFILE = config.get("profile", "quick")
ROOT = Path(os.environ.get("KDLIB_ROOT") or ".")
BUILD = str(ROOT / "build" / PROFILE)


def archived(seed):
    """Whether a replicate is published as records alone: the analysis has all it needs of it."""
    folder = ROOT / f"results/full/seed{seed}"
    return PROFILE == "full" and any(folder.glob("*.json")) and not any(folder.glob("*.safetensors"))


# Records that no notebook here makes: where they change, what the notebooks say of the published run does.
ARCHIVED = [
    str(path) for path in sorted((ROOT / "results/full").glob("seed*/*.json")) if archived(path.parent.name[4:])
]
SEEDS = [seed for seed in range(int(config.get("seeds", 1))) if not archived(seed)]

# Notebooks of one replicate, and those that must have run before. Stage one is trained in 04_exp1 and
# used again in 05_exp2.
NEEDS = {
    "01_teacher": [],
    "02_baseline": [],
    "03_distill": ["01_teacher"],
    "04_exp1": ["01_teacher"],
    "05_exp2": ["01_teacher", "04_exp1"],
}
REPLICATES = expand(f"{BUILD}/seed{{seed}}/{{name}}.ipynb", seed=SEEDS, name=NEEDS)
ANALYSIS = f"{BUILD}/06_analysis.ipynb"
SOURCES = sorted(str(path) for path in Path("kdlib").glob("*.py"))

# One training fills the machine, and several at once only slow each other; but not with images as few as the digits.
# On a cluster the cores of a machine are not known here.
THREADS = 1 if PROFILE == "smoke" else workflow.resource_settings.cores or 8

# Everything runs in the environment that Snakemake runs in, whether that is activated or not.
PYTHON = sys.executable

# The notebook's own output, such as one line per epoch, goes to the terminal; papermill's bar, which
# counts cells, does not.
PAPERMILL = (
    f"{PYTHON} -m papermill {{input.notebook}} {{output}} -k python3 --no-progress-bar --log-level ERROR --stdout-file -"
)


wildcard_constraints:
    seed=r"\d+",
    name="|".join(NEEDS),


rule report:
    input:
        [path.replace(".ipynb", ".html") for path in [*REPLICATES, ANALYSIS]],


rule data:
    output:
        f"{BUILD}/data.ready",
    input:
        "kdlib/datasets.py",
    shell:
        f"{PYTHON} -m kdlib.report choose {PROFILE} > {{output}}"


rule notebook:
    input:
        f"{BUILD}/data.ready",
        lambda wildcards: [f"{BUILD}/seed{wildcards.seed}/{name}.ipynb" for name in NEEDS[wildcards.name]],
        SOURCES,
        ARCHIVED,
        notebook="notebooks/{name}.ipynb",
    output:
        f"{BUILD}/seed{{seed}}/{{name}}.ipynb",
    threads: THREADS
    shell:
        f"echo '--- {{wildcards.name}}, seed {{wildcards.seed}}' && {PAPERMILL} -p profile {PROFILE} -p seed {{wildcards.seed}}"


rule analysis:
    input:
        REPLICATES,
        SOURCES,
        ARCHIVED,
        notebook="notebooks/06_analysis.ipynb",
    output:
        ANALYSIS,
    shell:
        f"echo '--- 06_analysis' && {PAPERMILL} -p profile {PROFILE}"


rule html:
    input:
        "{path}.ipynb",
    output:
        "{path}.html",
    shell:
        f"{PYTHON} -m nbconvert --to html --log-level ERROR {{input}}"
