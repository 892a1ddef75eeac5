"""Whether a file that somebody wrote is one that dcsim takes, and what is wrong with it if it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcsim import library
from dcsim.errors import DcsimError, Problem, SpecError
from dcsim.spec.document import read_document
from dcsim.study.sweep.file import checked, document_if_sweep

ANY_TOPOLOGY = "node"  # what a workload or an LLM is put in, to be read


def check_file(file: str) -> dict[str, Any]:
    """What kind of file it is, `ok`, and `problems`: each with where, what and how to mend it.

    A topology is built as well, so that an LLM that does not fit is found; a workload's requests are made. SpecError where there
    is no such file.
    """
    path = Path(file).expanduser()
    if not library.is_file(path):
        raise SpecError(Problem(file, "no such file", "give the path of a topology, a workload, a sweep or an LLM's config"))
    kind = ""
    try:
        kind = _kind(path)
        what = _CHECKS[kind](str(path))
    except SpecError as error:
        problems = [{"where": one.where, "what": one.what, "mend": one.mend} for one in error.problems]
        return {"file": file, "kind": kind, "ok": False, "problems": problems}
    except DcsimError as error:
        return {"file": file, "kind": kind, "ok": False, "problems": [{"where": file, "what": str(error), "mend": ""}]}
    return {"file": file, "kind": kind, "ok": True, "problems": [], **what}


def _kind(path: Path) -> str:
    if path.suffix == ".json":
        return "llm"
    if path.suffix not in (".yaml", ".yml"):
        return "workload"
    if document_if_sweep(str(path)) is not None:
        return "sweep"
    data = read_document(path).data
    if "fabric" in data or "chip" in data:
        return "topology"
    if "layers" in data or "attention" in data:
        return "llm"
    return "workload"


def _topology(file: str) -> dict[str, Any]:
    from dcsim.spec.load import load
    from dcsim.study.machine import build

    spec = load(file).spec
    machine = build(spec)
    return {**machine.terms, "chips": int(machine.site.chips.sum()), "workload": spec.workload.name}


def _workload(file: str) -> dict[str, Any]:
    from dcsim.spec.load import load
    from dcsim.workload.generate import iterate_requests

    spec = load(ANY_TOPOLOGY, workload=file).spec.workload
    first = None if spec.kind == "closed" else len(next(iterate_requests(spec, 1)))
    return {"workload": spec.name, "requests_read": first}


def _llm(file: str) -> dict[str, Any]:
    from dcsim.spec.load import load

    return {"llm": load(ANY_TOPOLOGY, llm=file).spec.llm.name}


def _sweep(file: str) -> dict[str, Any]:
    document = document_if_sweep(file)
    assert document is not None
    spec = checked(document)
    return {"topology": spec.topology, "design": spec.design}


_CHECKS = {"topology": _topology, "workload": _workload, "llm": _llm, "sweep": _sweep}
