"""Ten changes that people make, each a small patch with its own test: how many places a new idea touches.

`tests/changes/NAME.patch` is applied to a copy of the checkout, where `tests/changes/NAME.py` then runs. A change that needs
more than four source files says that the house is to be redesigned at that joint. YAML, tests and generated pages do not count.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHANGES = sorted(path.stem for path in (ROOT / "tests/changes").glob("*.patch"))
KINDS = {
    "packet_routing",
    "congestion_control",
    "serving_policy",
    "router",
    "collective",
    "two_memories",
    "metric",
    "trace_format",
    "page",
    "cost_component",
}
EXAMPLES = ("collective", "page")  # of CONTRIBUTING.md
FILES_MAX = 4
PARTS = ("dcsim", "dashboard", "validation", "topologies", "workloads", "tests", "docs", "pyproject.toml")


def patch_of(name):
    return (ROOT / "tests/changes" / f"{name}.patch").read_text()


def sources(patch):
    """The source files that a patch touches."""
    files = set(re.findall(r"^(?:\+\+\+ b|--- a)/(\S+)$", patch, re.MULTILINE))
    return {file for file in files if file.endswith(".py") and not file.startswith(("tests/", "docs/"))}


def test_all_ten_are_kept():
    assert set(CHANGES) == KINDS
    assert all((ROOT / "tests/changes" / f"{name}.py").is_file() for name in CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_touches_few_files(name):
    assert 1 <= len(sources(patch_of(name))) <= FILES_MAX


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_worked_examples_are_these_changes(name):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert f"```diff\n{patch_of(name)}```\n" in text
    assert f"tests/changes/{name}.py" in text


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the checkout, as one place for all changes: each is taken back after its test."""
    folder = tmp_path_factory.mktemp("copy")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    kernels = Path("dcsim/__pycache__/kernels")
    if (ROOT / kernels).is_dir():  # what is compiled already, and no change touches, need not be again
        shutil.copytree(ROOT / kernels, folder / kernels)
    return folder


def apply(name, folder, *options):
    done = subprocess.run(["git", "apply", *options, "-"], cwd=folder, input=patch_of(name), capture_output=True, text=True)
    assert done.returncode == 0, f"{name}.patch is to be made anew on today's sources: {done.stderr}"
    return done


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the patches")
@pytest.mark.parametrize("name", [name if name in EXAMPLES else pytest.param(name, marks=pytest.mark.slow) for name in CHANGES])
def test_it_works(name, copy):
    apply(name, copy)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"tests/changes/{name}.py"],
            cwd=copy,
            env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST")},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        apply(name, copy, "--reverse")


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the patches")
@pytest.mark.parametrize("name", CHANGES)
def test_it_applies_to_these_sources(name, copy):
    assert apply(name, copy, "--check").stderr == ""
