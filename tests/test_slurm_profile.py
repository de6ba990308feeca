"""The SLURM profile, without SLURM: Snakemake knows its settings, and jobs ask for what they should."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

HOME = Path(__file__).parents[1]
PLUGIN = importlib.util.find_spec("snakemake_executor_plugin_slurm") and shutil.which("which")

# What each rule asks for, as it is when a job is submitted, and again inside the job, on a machine of 64 cores.
RULES = """
import json, sys
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, ResourceSettings, WorkflowSettings
from snakemake_interface_executor_plugins.settings import ExecMode

def asked(rule, all_rules):
    names = ("_cores", "gpu", "mem_mb", "runtime")
    here = rule.name in all_rules._localrules
    return "here" if here else [rule.resources[name].value if name in rule.resources else None for name in names]

for config in json.loads(sys.argv[1]):
    for inside in (False, True):
        with SnakemakeApi() as api:
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=64) if inside else ResourceSettings(nodes=20),
                workflow_settings=WorkflowSettings(exec_mode=ExecMode.REMOTE if inside else ExecMode.DEFAULT),
                config_settings=ConfigSettings(config=config),
            )
            workflow.dag()
            rules = workflow._workflow
            print(json.dumps({rule.name: asked(rule, rules) for rule in rules.rules}))
"""


def test_a_training_asks_for_the_same_when_submitted_and_inside_its_job():
    """Cores, GPUs, MB and minutes."""
    configs = [{"profile": "full", "seeds": 5}, {"profile": "full", "gpus": 0}, {"profile": "smoke"}]
    command = [sys.executable, "-c", RULES, json.dumps(configs)]
    result = subprocess.run(command, cwd=HOME, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    full, full_inside, no_gpu, no_gpu_inside, smoke, smoke_inside = map(json.loads, result.stdout.splitlines())
    assert full["training"] == [8, 1, 6000, 240] and full["notebook"] == [1, 1, 6000, 30]
    assert full["comparison"] == full["notebook"]
    assert {name for name, asked in full.items() if asked == "here"} == {"report", "data", "book"}
    assert no_gpu["training"] == [8, 0, 6000, 240] and smoke["training"] == [1, 1, 6000, 240]
    assert (full_inside, no_gpu_inside, smoke_inside) == (full, no_gpu, smoke)


def test_snakemake_takes_every_setting_of_the_profile(tmp_path):
    profile = yaml.safe_load((HOME / "profiles/slurm/config.yaml").read_text("utf-8"))
    if not PLUGIN:  # then its own settings are the only ones that cannot be checked
        assert profile.pop("executor") == "slurm"
        profile = {name: value for name, value in profile.items() if not name.startswith("slurm-")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(profile))
    command = [sys.executable, "-m", "snakemake", "--profile", tmp_path, "--config", "profile=full", "seeds=2"]
    result = subprocess.run([*command, "--dry-run"], cwd=HOME, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
