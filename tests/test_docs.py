"""What README and docs say is so: commands run and print what is shown, links lead somewhere, pages are up to date.

A ```console block holds commands after `$ ` and what they print, where `...` stands for anything; a command without
output has only to succeed. A comment `<!-- tested with: OPTIONS -->` before a block adds options that make its
commands short; then their output is not compared. Python blocks run as they are.
"""

import doctest
import re
import shlex
from pathlib import Path

import pytest
from command import dcsim

from dcsim import library
from validation.docs_pages import PAGES

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = {"git", "cd", "python3", "pip", "make"}  # what sets up, which .ci/run does
SERVERS = {"dashboard"}  # run until stopped
BLOCK = re.compile(r"(?:<!-- tested with: (?P<options>.*?) -->\s*)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _id(path):
    return str(path.relative_to(ROOT))


def commands(text):
    """(command, what it prints) of a console block; a backslash at a line's end goes on."""
    joined = text.replace("\\\n", " ")
    for part in re.split(r"^\$ ", joined, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command.strip(), output


def check(text, folder):
    """Run the console blocks of a page in `folder`; returns what went wrong."""
    wrong = []
    for block in BLOCK.finditer(text):
        for command, output in commands(block["text"]) if block["kind"] == "console" else ():
            first, *arguments = shlex.split(command, comments=True)
            if first in NOT_RUN or SERVERS.intersection(arguments[:1]):
                continue
            if Path(first).name != "dcsim":
                wrong.append(f"{command}: not a command that the tests know how to run")
                continue
            code, out, err = dcsim(*arguments, *shlex.split(block["options"] or ""), cwd=folder)
            if code:
                wrong.append(f"{command}: exit code {code}: {err}")
            elif output.strip() and not block["options"]:
                same = doctest.OutputChecker().check_output
                if not same(output, out, FLAGS) and not same(output, out + err, FLAGS):
                    wrong.append(f"{command}: prints\n{out}{err}")
    return wrong


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the topologies and workloads, as a checkout has them."""
    folder = tmp_path_factory.mktemp("docs")
    library.copy_data(folder)
    return folder


def _marked(path):
    """The README's commands take minutes: `make test-docs` runs them, and so does .ci/run."""
    return pytest.param(path, marks=pytest.mark.slow) if path.name == "README.md" else path


@pytest.mark.parametrize("path", [_marked(path) for path in DOCS], ids=_id)
def test_commands_print_what_is_shown(path, workplace):
    wrong = check(path.read_text(encoding="utf-8"), workplace)
    assert not wrong, "\n".join(wrong)


def test_the_check_itself_finds_faults(tmp_path):
    page = "Text.\n\n```console\n$ dcsim --version\n{}\n```\n"
    assert check(page.format("0..."), tmp_path) == []
    assert "prints" in check(page.format("9.9.9"), tmp_path)[0]
    assert "exit code 2" in check(page.format("").replace("--version", "nosuch"), tmp_path)[0]
    assert "know how" in check(page.format("").replace("dcsim", "curl"), tmp_path)[0]
    assert "exit code 2" in check(page.format("9.9.9").replace("```c", "<!-- tested with: --nosuch -->\n```c"), tmp_path)[0]
    assert check(page.format("9.9.9").replace("console", "text"), tmp_path) == []


@pytest.mark.parametrize("path", DOCS, ids=_id)
def test_python_blocks_run(path, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
        if block["kind"] == "python" and ">>>" not in block["text"]:
            exec(compile(block["text"], str(path), "exec"), {})
    prompts = doctest.DocTestParser().get_doctest(path.read_text(encoding="utf-8"), {}, path.name, str(path), 0)
    assert doctest.DocTestRunner(optionflags=FLAGS).run(prompts).failed == 0


@pytest.mark.parametrize("path", DOCS, ids=_id)
def test_what_is_named_exists(path):
    import typer

    from dcsim.cli import app

    text = path.read_text(encoding="utf-8")
    code = " ".join([*re.findall(r"`([^`\n]+)`", text), *(block["text"] for block in BLOCK.finditer(text))])
    known = set(typer.main.get_command(app).commands)
    assert set(re.findall(r"\bdcsim ([a-z]+)\b(?!\.)", code)) <= known
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|\$ |`)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / link).exists(), link


@pytest.mark.parametrize("name", sorted(PAGES))
def test_generated_pages_are_up_to_date(name):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_links_within_the_generated_pages_lead_to_headings():
    for name, page in PAGES.items():
        headings = {line[3:].lower() for line in page().splitlines() if line.startswith("## ")}
        assert set(re.findall(r"\(#([^)]+)\)", page())) <= headings, name


def test_design_lists_its_rooms_and_every_decision_stands_in_one():
    text = (ROOT / "docs/DESIGN.md").read_text(encoding="utf-8")
    contents, *rooms = text.split("\n## ")
    headings = [room.partition("\n")[0] for room in rooms]
    listed = re.findall(r"^- \[(.+)\]\(#(.+)\):", contents, re.MULTILINE)
    assert listed == [(heading, heading.lower().replace(" ", "-")) for heading in headings]
    assert "\n**" not in contents
    assert all(room.partition("\n")[2].lstrip().startswith("**") for room in rooms)
