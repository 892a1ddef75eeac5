"""Every shipped file loads, and every figure from the world in it says what it rests on."""

from pathlib import Path

import by_rule
import pytest
from ruamel.yaml import YAML

from dcsim import library
from dcsim.errors import SpecError
from dcsim.spec.document import FIGURE_KINDS, read_document, section_types
from dcsim.spec.load import load
from dcsim.spec.section import Section

ROOT = Path(__file__).resolve().parents[1]
PARTS = sorted(path for path in (ROOT / "topologies").glob("*/*.yaml"))
PRESETS = sorted((ROOT / "workloads").glob("*.yaml"))
LLMS = sorted((ROOT / "workloads/llms").glob("*.yaml"))
TOPOLOGIES = sorted((ROOT / "topologies").glob("*.yaml"))
# Keys that hold words, or say how a run is made rather than what the world is like.
NO_FIGURES = {"name", "description", "source", "replications", "shares"}


def _id(path):
    return str(path.relative_to(ROOT))


def _leaves(node, path=()):
    """Every leaf of a YAML tree with its path; a mapping with `value` is one leaf."""
    if isinstance(node, dict) and "value" not in node:
        for key, value in node.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from _leaves(item, (*path[:-1], f"{path[-1]}[{index}]"))
    else:
        yield path, node


def _figures(path):
    return [(where, leaf) for where, leaf in _leaves(YAML(typ="safe").load(path)) if isinstance(leaf, dict)]


@pytest.mark.parametrize("path", PARTS, ids=_id)
def test_every_number_of_a_part_is_a_figure(path):
    bare = [
        ".".join(where)
        for where, leaf in _leaves(YAML(typ="safe").load(path))
        if not isinstance(leaf, dict) and where[-1].partition("[")[0] not in NO_FIGURES and not _is_word(leaf)
    ]
    assert not bare, f"needs value, kind and source: {', '.join(bare)}"


def _is_word(leaf):
    """True for a choice such as `kind: lpu`, a switch, or 0 for what is not there; a quantity begins with a digit."""
    return leaf == 0 or isinstance(leaf, bool) or (isinstance(leaf, str) and not leaf[:1].isdigit())


@pytest.mark.parametrize("path", [*PARTS, *PRESETS, *TOPOLOGIES], ids=_id)
def test_every_figure_has_a_kind_and_a_source_and_an_assumed_one_a_range(path):
    for where, figure in _figures(path):
        label = ".".join(where)
        assert figure.get("kind") in FIGURE_KINDS, label
        assert len(str(figure.get("source", ""))) > 5, label
        if figure["kind"] == "assumed" and not isinstance(figure["value"], list):
            assert len(figure.get("range", ())) == 2, f"{label}: an assumed figure needs a range"


@pytest.mark.parametrize("path", LLMS, ids=_id)
def test_every_llm_names_where_its_shape_comes_from(path):
    assert len(read_document(path).data["source"]) > 10


def test_names_are_not_shared_within_a_folder():
    for folder in {path.parent for path in [*PARTS, *PRESETS, *LLMS, *TOPOLOGIES]}:
        names = [read_document(path).data.get("name") for path in sorted(folder.glob("*.yaml"))]
        assert None not in names, folder
        assert len(set(names)) == len(names), folder


def test_the_catalog_is_there():
    for folder, least in (("topologies", 3), ("topologies/chips", 5), ("topologies/networks", 1), ("workloads", 5)):
        assert len(library.names(folder)) >= least, folder


@pytest.mark.parametrize("path", TOPOLOGIES, ids=_id)
def test_every_topology_builds_and_fits_its_llm(path):
    from dcsim.study.machine import build

    spec = by_rule.load(path).spec  # which wants room for the longest context
    machine = build(spec)
    assert spec.name == path.stem
    assert machine.mapping.replicas >= 1
    assert machine.mapping.memory.kv_tokens_max >= spec.llm.context_max
    assert machine.fabric.chip_active.sum() >= machine.mapping.chips_used * machine.mapping.replicas


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (key, path)
        for key, folder in (("chip", "chips"), ("node", "nodes"), ("host", "hosts"), ("network", "networks"))
        for path in sorted((ROOT / "topologies" / folder).glob("*.yaml"))
    ],
    ids=lambda value: value if isinstance(value, str) else value.stem,
)
def test_every_part_is_a_valid_section(key, path):
    resolved = load("8rack", settings=[f"{key}={path}"])
    assert getattr(resolved.spec, key).name == read_document(path).data["name"]
    assert resolved.figures  # with its provenance


@pytest.mark.parametrize("option", ["llm", "workload"])
def test_every_llm_and_workload_is_a_valid_section(option):
    for path in LLMS if option == "llm" else PRESETS:
        spec = load("8rack", **{option: str(path)}).spec
        assert getattr(spec, option).name == read_document(path).data["name"]


def test_every_key_says_what_it_means():
    from validation.docs_pages import all_sections

    silent = []
    for section in all_sections():
        if not (section.__doc__ or "").strip():
            silent.append(section.__name__)
        for name, field in section.model_fields.items():
            below = [c for c in section_types(field.annotation) if isinstance(c, type) and issubclass(c, Section)]
            if not field.description and not below and name != "kind":
                silent.append(f"{section.__name__}.{name}")
    assert not silent


@pytest.mark.parametrize("folder", ["topologies", "topologies/chips", "workloads", "workloads/llms"])
def test_a_bare_name_finds_what_the_folder_lists(folder):
    listed = library.files(folder)
    assert all(library.find(name, folder) == listed[f"{name}.yaml"] for name in library.names(folder))
    with pytest.raises(SpecError):
        library.find("../topologies/8rack", folder)
