"""Sections: a name stands for an entry, keys go over it, and what is read of a section is known and compared with nothing."""

import importlib
import math
import pkgutil
from typing import Annotated

import pytest
from pydantic import BeforeValidator, TypeAdapter, ValidationError

import dcsim.spec
from dcsim.errors import SpecError
from dcsim.spec.catalog import REFERENCES
from dcsim.spec.faults import FaultsSpec
from dcsim.spec.load import load
from dcsim.spec.section import Section, part_at, was_read
from dcsim.spec.unused import unused

NDR = {"network": "infiniband-ndr"}
# A key of each inner section, a value for it and what that is in base units.
INNER = {
    "network.software": ("network.software.network.send", "7 us", 7e-6, "verbs"),
    "network.jitter": ("network.jitter.shares.1", "0.4", 0.4, "host"),
    "network.transport": ("network.transport.dcqcn.timer", "60 us", 60e-6, "rdma"),
    "network.cables": ("network.cables.metre", "4 ns", 4e-9, "usual"),
    "serving.engine": ("serving.engine.step", "3 ms", 3e-3, "vllm"),
    "network.prices": ("network.prices.cable", "1 USD", 1.0, "chiplet-cloud"),
}


def at(spec, key):
    return part_at(spec, tuple(key.split(".")))


def test_every_inner_section_that_may_be_named_is_tried_here():
    of_gpus = {"chip.operators"}  # no key of the chips here: see tests/llm/test_operators.py
    assert set(INNER) | of_gpus == {".".join(path) for path in REFERENCES if len(path) > 1}


@pytest.mark.parametrize("section", INNER)
def test_a_named_entry_is_in_place_and_a_key_of_it_can_be_set(section):
    key, text, value, entry = INNER[section]
    named = load("8rack", **NDR, settings=[f"{section}={entry}"])
    assert at(named.spec, section).name == entry
    set_too = load("8rack", **NDR, settings=[f"{key}={text}", f"{section}={entry}"])  # whatever the order
    assert at(set_too.spec, key) == pytest.approx(value) != at(named.spec, key)
    assert at(set_too.spec, section).name == entry
    assert tuple(key.split(".")) not in set_too.figures  # a figure set by hand has no source
    assert any(path[: section.count(".") + 1] == tuple(section.split(".")) for path in named.figures)


@pytest.mark.parametrize("section", [section for section in INNER if section.startswith("network.")])
def test_a_file_says_the_same_in_any_of_three_ways(section, tmp_path):
    key, text, value, entry = INNER[section]
    own = tmp_path / "own.yaml"
    keys = key.removeprefix(f"{section}.").split(".")
    if keys[-1].isdigit():  # a list is written whole
        keys, text = keys[:-1], "[0, 0.4, 0.99, 0.999, 1]"
    above = "".join("  " * depth + f"{name}:\n" for depth, name in enumerate(keys[:-1]))
    own.write_text(f"base: {entry}\nname: own\n{above}{'  ' * (len(keys) - 1)}{keys[-1]}: {text}\n")
    outer, inner = section.split(".")
    network = tmp_path / "network.yaml"
    network.write_text(f"base: infiniband-ndr\nname: mine\n{inner}: {own}\n")
    for spec in (
        load("8rack", network="infiniband-ndr", settings=[f"{section}={own}"]).spec,
        load("8rack", network=str(network)).spec,
        load("8rack", settings=[f"{outer}={network}"]).spec,
    ):
        assert at(spec, section).name == "own"
        assert at(spec, key) == pytest.approx(value)


def test_keys_over_the_entry_that_a_section_is_by_default(tmp_path):
    network = tmp_path / "network.yaml"
    network.write_text("base: infiniband-ndr\nname: mine\nsoftware: {network: {send: 7 us}}\nprices: {cable: 1 USD}\n")
    spec, plain = load("8rack", network=str(network)).spec, load("8rack", **NDR).spec
    assert spec.network.software.network.send_s == pytest.approx(7e-6)
    assert spec.network.software.network.patterns == plain.network.software.network.patterns
    assert (spec.network.prices.cable_usd, spec.network.prices.rack_usd) == (1, plain.network.prices.rack_usd)


def test_a_packet_network_has_the_library_of_its_chips_unless_one_is_named():
    names = {chip: load("8rack", **NDR, settings=[f"chip={chip}"]).spec.network.software.name for chip in ("h100", "tpu-v4")}
    assert names == {"h100": "nccl-measured", "tpu-v4": "ideal"}
    assert load("8rack", **NDR, settings=["chip=h100", "software=verbs"]).spec.network.software.name == "verbs"
    assert load("8rack", **NDR, settings=["network.software=none"]).spec.network.software.name == "ideal"  # as it was called


def test_a_key_that_another_section_took_is_used_if_that_one_is():
    for settings, key in ((["chip.local_ports=9"], "chip.local_ports"), (["chip.software=verbs"], "chip.software")):
        resolved = load("8rack", **NDR, settings=settings)
        assert key in unused(resolved)
        assert resolved.spec.network.software.network
        assert resolved.spec.fabric.local_ports in (7, 9)
        assert key not in unused(resolved)
    assert load("8rack", settings=["chip.global_ports=3"]).spec.fabric.global_ports == 3
    assert load("8rack", settings=["chip.global_ports=3", "fabric.global_ports=2"]).spec.fabric.global_ports == 2
    assert "chip.software" in unused(load("8rack", settings=["chip.software=verbs"]))  # no library on the scheduled network


def test_the_scheduled_network_has_prices_and_no_library():
    spec = load("8rack", settings=["network.prices.cable=1 USD"]).spec
    assert spec.network.prices.cable_usd == 1
    with pytest.raises(SpecError, match=r"network\.software: unknown key"):
        load("8rack", settings=["network.software=nccl"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("network.software=ncl", "no file and no library entry 'ncl' in topologies/software; did you mean nccl"),
        ("network.prices=rent-a100", r"network\.prices\.kind: input should be 'tco'"),
        ("network.software.network.patterns.70.first=1 us", "'70' is no place in a list of 5; places count from 0"),
        ("network.software.network.patterns.0.frst=1 us", r"patterns\.0\.frst: unknown key; did you mean 'first'"),
        ("network.software.network.send=1", r"network\.software\.network\.send: needs a unit"),
        ("network.jitter.shares=[0, 1]", r"network\.jitter: missing key|network\.jitter\.delays: missing key"),
        ("network.prices.base=x", "sections keep their base; name another entry with --set network.prices=x"),
    ],
)
def test_what_is_wrong_in_an_inner_section_is_told(setting, message):
    with pytest.raises(SpecError, match=message):
        load("8rack", **NDR, settings=[setting])


def test_sections_are_equal_whatever_was_read_of_them():
    one, other = load("8rack").spec, load("8rack").spec
    assert one == other
    assert hash(one) == hash(other)
    assert one.faults.events == ()
    assert one == other
    assert one.faults == FaultsSpec()
    assert one != load("8rack", settings=["slo.ttft=2 s"]).spec
    assert not was_read(other, ("faults", "events"))  # comparing read nothing


def test_checking_a_spec_is_no_reading_of_it():
    resolved = load("8rack", settings=["power.pdu_efficiency=0.97", "power.pue=1.5"])
    assert unused(resolved)["power.pdu_efficiency"] == "--set power.pdu_efficiency=0.97"
    assert resolved.spec.power.pdu_efficiency == 0.97
    assert "power.pdu_efficiency" not in unused(resolved)


@pytest.mark.parametrize("llm", ["mixtral-8x7b", "gpt-oss-20b", "qwen3.5-397b-a17b", "whisper-large-v3"])
def test_a_spec_is_read_again_as_it_was_saved(llm):
    spec = load("64chip", llm=llm).spec
    assert type(spec).from_saved(spec.saved()) == spec


def every_section(base=Section):
    for module in pkgutil.iter_modules(dcsim.spec.__path__):
        importlib.import_module(f"dcsim.spec.{module.name}")
    for section in base.__subclasses__():
        yield section
        yield from every_section(section)


def test_every_bound_that_a_key_states_is_kept():
    """A field's own bound goes unheeded where its type has one of that kind already."""
    tried, broken = 0, []
    for section in set(every_section()):
        for name, field in section.model_fields.items():
            if any(isinstance(rule, BeforeValidator) for rule in field.metadata):
                continue  # a quantity, which wants its unit
            for rule in field.metadata:
                key, way = {"Le": ("le", 1), "Lt": ("lt", 0), "Ge": ("ge", -1), "Gt": ("gt", 0)}.get(type(rule).__name__, ("", 0))
                if not key:
                    continue
                bound = getattr(rule, key)
                beyond = bound + way if field.annotation is int else math.nextafter(bound, bound + way)
                tried += 1
                try:
                    TypeAdapter(Annotated[field.annotation, *field.metadata]).validate_python(beyond)
                    broken.append(f"{section.__name__}.{name}: {rule}")
                except ValidationError:
                    pass
    assert tried > 100
    assert not broken
