"""The lists of packages agree: what kdlib imports, what is pinned, and the lock."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOME = Path(__file__).parents[1]


def read(name):
    """{package: its requirements} of a file; the lock has several of a package where systems differ."""
    found = {}
    for line in (HOME / name).read_text("utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line and not line.startswith("-"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


PINNED = read("requirements.txt") | read("requirements-extra.txt")
LOCK = read("requirements.lock")


@pytest.mark.parametrize("name", PINNED)
def test_the_lock_holds_the_pinned_versions(name):
    (pinned,) = PINNED[name]
    assert {str(locked.specifier) for locked in LOCK[name]} == {str(pinned.specifier)}, "run make lock"


def test_the_lock_fixes_every_version_and_names_no_index_or_path():
    for requirements in LOCK.values():
        assert all(re.fullmatch(r"==[\w.+!]+", str(locked.specifier)) and not locked.url for locked in requirements)
    text = (HOME / "requirements.lock").read_text("utf-8")
    assert "://" not in text and "--" not in text


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0", "3.14.0"])
@pytest.mark.parametrize(("system", "machine"), [("linux", "x86_64"), ("darwin", "arm64"), ("darwin", "x86_64")])
def test_the_lock_serves_every_python_and_system_with_one_version_of_each_package(python, system, machine):
    environment = {
        "python_version": python.rpartition(".")[0], "python_full_version": python, "sys_platform": system,
        "platform_machine": machine, "platform_system": {"linux": "Linux", "darwin": "Darwin"}[system],
        "implementation_name": "cpython", "platform_python_implementation": "CPython", "os_name": "posix",
    }  # fmt: skip
    for name, requirements in LOCK.items():
        served = [locked for locked in requirements if not locked.marker or locked.marker.evaluate(environment)]
        assert len(served) <= 1, name
        assert served or name not in PINNED, name


def test_everything_that_kdlib_needs_is_locked():
    needed = tomllib.loads((HOME / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    assert {canonicalize_name(Requirement(line).name) for line in needed} <= set(LOCK)


def test_the_hosted_workflow_names_every_python():
    workflow = (HOME / ".github/workflows/test.yml").read_text("utf-8")
    assert all(f'"3.{minor}"' in workflow for minor in (11, 12, 13, 14))
