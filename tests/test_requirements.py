"""The lists of packages agree: what kdlib imports, what is pinned, and the lock."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOME = Path(__file__).parents[1]


def read(name):
    """{package: its requirements} of a file; the lock has several of a package where systems differ."""
    found = {}
    for line in re.findall(r"^\w[^#\n]*", (HOME / name).read_text("utf-8"), re.M):
        found.setdefault(canonicalize_name(Requirement(line).name), []).append(Requirement(line))
    return found


PINNED = read("requirements.txt") | read("requirements-extra.txt")
LOCK = read("requirements.lock")


def test_the_lock_fixes_every_version_to_that_pinned_and_names_no_index_or_path():
    for name, requirements in LOCK.items():
        assert all(re.fullmatch(r"==[\w.+!]+", str(locked.specifier)) and not locked.url for locked in requirements)
        assert name not in PINNED or {locked.specifier for locked in requirements} == {PINNED[name][0].specifier}, name
    assert not re.search("://|--", (HOME / "requirements.lock").read_text("utf-8"))


def test_everything_that_kdlib_needs_is_locked():
    needed = tomllib.loads((HOME / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    assert {canonicalize_name(Requirement(line).name) for line in needed} | PINNED.keys() <= LOCK.keys()
