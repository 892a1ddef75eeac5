"""The wheel carries its library: it runs from an empty folder, without the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


NOTICES = ("LICENSE", "THIRD_PARTY_NOTICES.md")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist and the wheel that is built from it, as publishers do."""
    folder = tmp_path_factory.mktemp("built")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The `dcsim` command of a fresh environment that holds the wheel and borrows only its dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    packages = folder / "env" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.with_name("dcsim")


def run(command, *arguments, cwd, **more):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | more
    done = subprocess.run([command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


def test_the_notices_are_in_the_sdist_and_in_the_wheel(built):
    """And every file of others that is passed on is named in them."""
    notices = (ROOT / "THIRD_PARTY_NOTICES.md").read_text()
    assert all(path.name in notices for path in (ROOT / "workloads/traces").iterdir() if path.suffix != ".md")
    (wheel,) = built.glob("*.whl")
    (sdist,) = built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as packed:
        of_wheel = {Path(name).name: packed.read(name) for name in packed.namelist() if "/licenses/" in name}
        assert "dcsim/py.typed" in packed.namelist()
    with tarfile.open(sdist) as packed:
        top = packed.getnames()[0].partition("/")[0]
        of_sdist = {name: packed.extractfile(f"{top}/{name}").read() for name in NOTICES}
        names = {name.removeprefix(f"{top}/") for name in packed.getnames()}
    assert of_wheel == of_sdist == {name: (ROOT / name).read_bytes() for name in NOTICES}
    assert {"CONTRIBUTING.md", "Makefile", ".ci/run", "tests/test_wheel.py", "validation/claims.py", "docs/MODEL.md"} <= names


def test_the_lowest_versions_are_those_of_pyproject():
    """`make lowest` installs and runs them."""
    bounds = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert (ROOT / "tests/lowest.txt").read_text().splitlines()[1:] == [bound.replace(">=", "==") for bound in bounds]


def test_claims_are_tested_from_the_wheel(installed, tmp_path):
    exit_code, out, err = run(installed, "validate", "--only", "E1", "--json", cwd=tmp_path)
    assert exit_code == 0, err
    assert [row["id"] for row in json.loads(out)["rows"]] == ["E1"]


def test_the_code_and_the_library_are_the_wheels_own(installed, tmp_path):
    code = "from dcsim import library, cli; print(cli.__file__, library.root(), sorted(library.names('topologies')))"
    exit_code, out, err = run(installed.with_name("python"), "-c", code, cwd=tmp_path)
    assert exit_code == 0, err
    file, root, names = out.split(maxsplit=2)
    assert Path(file).is_relative_to(installed.parents[1])
    assert Path(root).name == "_library"
    assert names.strip() == str(sorted(path.stem for path in (ROOT / "topologies").glob("*.yaml")))


def test_init_gives_the_same_files_as_the_checkout(installed, tmp_path):
    exit_code, _, err = run(installed, "init", "mine", cwd=tmp_path)
    assert exit_code == 0, err
    for folder in ("topologies", "workloads"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                assert (tmp_path / "mine" / path.relative_to(ROOT)).read_bytes() == path.read_bytes(), path


def test_a_mistake_is_told_from_the_wheel_too(installed, tmp_path):
    exit_code, out, err = run(installed, "run", "8rack", "--set", "chip.clock=900", cwd=tmp_path)
    assert (exit_code, out) == (2, "")
    assert "needs a unit, for example '900 MHz'" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # compiles every kernel anew
def test_the_first_run_after_an_install_works_from_an_empty_folder(installed, tmp_path, tmp_path_factory):
    cold = str(tmp_path_factory.mktemp("cache"))
    exit_code, out, err = run(installed, "run", "8rack", "--duration", "30 s", "--json", cwd=tmp_path, NUMBA_CACHE_DIR=cold)
    assert exit_code == 0, err
    summary = json.loads(out)
    # Four of the trace have prompts that the LLM has no positions for.
    assert summary["requests_finished"] + summary["requests_beyond_llm"] == summary["requests_in"] > 50
    assert "compiling dcsim.network.scheduled" in err
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
