"""Every key of every kind of section has an effect on some answer of some command; a key that had none is named.

Each scenario is written out with all its keys and asked with a few commands. What they do not name as unused they used.
"""

import json

import explicit
import pandas as pd
import pytest
from test_every_command import OF_THE_MOMENT, changed

from dcsim.spec.document import section_types
from dcsim.spec.llm import LlmSpec
from dcsim.spec.load import load, load_entry
from dcsim.spec.section import LABELS, Named, Section
from dcsim.spec.topology import Topology

FEW = ("--context", "128")
RUN = ("run", "{}", "--out", "there")
ONE = ("iteration", "{}", *FEW)
LENGTHS = "lengths: {kind: lognormal, prompt_tokens: {median: 40, sigma: 0.5}, output_tokens: {median: 3, sigma: 0.5}}"
SMALL = ("mapping.tp=2", "mapping.pp=2", "mapping.chips_max=4")
QUICK = "kind: synthetic\nduration: 300 ms\nrequests: 3\n" + LENGTHS
STEADY = QUICK + "\narrivals: {rate: {kind: constant, mean: 20 requests/s}}\n"
PLAN = ("plan", "{}", *FEW, "--tokens-per-s", "10", "--tokens-per-s-per-user", "1")
TRACE = "{file: azure-2023-conv.csv.gz, start: 1 s, window: 60 s}"

WORKLOADS = {
    "steady": STEADY,
    "pieces": QUICK
    + "\narrivals: {rate: {kind: pieces, pieces: [{duration: 1 s, rate: 20 requests/s}]}, process: gamma, cv: 2}\n",
    "day": QUICK
    + f"\narrivals: {{rate: {{kind: day, mean: 20 requests/s, hours: {[1] * 24}}}, bursts: {{on: 1 s, off: 1 s}}}}\n",
    "traced rate": QUICK
    + f"\narrivals: {{rate: {{kind: trace, trace: {TRACE}, mean: 20 requests/s}}, noise: {{cv: 0.5, persistence: 0.5}}}}\n",
    "traced lengths": "kind: synthetic\nduration: 300 ms\nrequests: 2\narrivals: {rate: {kind: constant, mean: 20 requests/s}}\n"
    f"lengths: {{kind: trace, trace: {TRACE}}}\n",
    "bootstrap": f"kind: bootstrap\nduration: 300 ms\nrequests: 2\ntrace: {TRACE}\nblock: 10 s\nmean: 20 requests/s\n",
    "replay": f"kind: replay\nduration: 1 s\nrequests: 2\ntrace: {TRACE}\n",
    "columns": "kind: replay\nduration: 1 s\ntrace: {file: own.csv, format: columns, columns: {arrival: at, arrival_unit: s, "
    "prompt_tokens: p, output_tokens: o, failed: drop}}\n",
    "own unit": "kind: replay\nduration: 1 s\ntrace: {file: vidur.csv, format: vidur, arrival_unit: s}\n",
    "all at once": "kind: replay\nduration: 1 s\ntrace: {file: vidur.csv, format: vidur}\n",
    "blocks": "kind: replay\nduration: 1 s\ntrace: {file: blocks.jsonl, format: mooncake, prefix_block_tokens: 16}\n",
    "sessions": "kind: sessions\nduration: 1 s\nrequests: 4\narrivals: {rate: {kind: constant, mean: 9 requests/s}}\n"
    f"{LENGTHS}\nturns_mean: 3\nthink: 50 ms\nanswer_token: 1 ms\ncontext_max: 400\n",
    "closed": f"kind: closed\nduration: 1 s\nrequests: 4\nusers: 2\nthink: 50 ms\nrequests_per_user: 2\n{LENGTHS}\n",
    "spans": "kind: closed\nduration: 1 s\nrequests: 4\nusers: 2\nthink: 50 ms\nrequests_per_user: 2\n"
    "lengths: {kind: uniform, prompt_tokens: {min: 30, max: 40}, output_tokens: {min: 2, max: 5}}\n",
    "classes": STEADY + "classes: [{name: a, share: 1, priority: 1, ttft: 1 s, tpot: 1 s}, {name: b, share: 1}]\n",
}
LPU, GPU = "node", "dgx-h100"
# An LLM with a layer of every kind.
MIXED = """
layers: 16
d_model: 256
vocab: 1000
d_embedding: 128
d_layer_input: 32
vocab_layer_input: 100
positions: 512
residual_streams: 2
norms: 2
context_max: 4096
attention:
  full: {kind: full, heads: 4, kv_heads: 2, d_head: 32, d_value: 32, q_rank: 64, gate: head, keys: own}
  windowed: {kind: windowed, heads: 4, kv_heads: 2, d_head: 32, d_value: 16, q_rank: 64, gate: channel, keys: own, window: 64}
  chunked: {kind: chunked, heads: 4, kv_heads: 2, d_head: 32, d_value: 32, q_rank: 64, gate: head, keys: own, chunk: 64}
  cross: {kind: cross, heads: 4, kv_heads: 2, d_head: 32}
  latent: {kind: latent, heads: 4, q_rank: 64, kv_rank: 64, d_nope: 32, d_rope: 16, d_value: 32, gate: channel,
    index: {heads: 2, d_head: 16, tokens: 32}}
  compressed: {kind: compressed, heads: 4, d_head: 32, q_rank: 64, o_rank: 32, o_groups: 2, window: 32, ratio: 4, overlap: true,
    index: {heads: 2, d_head: 16, tokens: 8}}
  delta: {kind: delta, key_heads: 4, value_heads: 4, d_key: 32, d_value: 32, convolution: 4, decay_rank: 16, gate_rank: 16}
  lightning: {kind: lightning, heads: 4, d_head: 32}
  mamba: {kind: mamba, d_inner: 512, d_state: 16, dt_rank: 16, convolution: 4}
  mamba2: {kind: mamba2, heads: 8, d_head: 64, d_state: 32, groups: 2, convolution: 4}
  short: {kind: convolution, convolution: 3}
feed_forward:
  dense: {kind: dense, d_ff: 512, activation: gelu}
  routed: {kind: routed, experts: 8, experts_active: 2, d_ff: 128, activation: swiglu,
    shared_d_ff: 128, d_latent: 128, experts_empty: 2}
pattern:
  - {attention: full, feed_forward: dense}
  - {attention: windowed, feed_forward: routed}
  - {attention: chunked, feed_forward: dense}
  - {attention: cross, feed_forward: dense}
  - {attention: latent, feed_forward: dense}
  - {attention: compressed, feed_forward: dense}
  - {attention: delta, feed_forward: dense}
  - {attention: lightning, feed_forward: dense}
  - {attention: mamba, feed_forward: dense}
  - {attention: mamba2, feed_forward: dense}
  - {attention: short, feed_forward: dense, layers: 6}
prediction: {layers: 1, attention: full, feed_forward: dense}
encoders:
  sound: {joins: cross_attention, layers: 2, d_model: 128, heads: 2, kv_heads: 2, d_head: 64, d_ff: 256, activation: gelu,
    tokens: 64, d_input: 80, tokens_out: 32, projections: [[128, 256]]}
  sight: {joins: prompt, inputs: 1, layers: 2, d_model: 128, heads: 2, kv_heads: 2, d_head: 64, d_ff: 256,
    activation: gelu, tokens: 64}
precision: {weights: bf16, attention: fp8, state: fp8, dense: fp8, experts: fp8, shared: fp8,
  router: fp32, norm: fp32, embedding: bf16, head: bf16, encoder: bf16, activations: fp8}
"""
TWO = ("mapping.replicas=2", "mapping.tp=2", "mapping.pp=2")

# name: (topology, settings, workload, commands)
SCENARIOS = {
    **{f"workload {name}": (LPU, SMALL, name, [RUN]) for name in WORKLOADS},
    "scheduled": (LPU, ("mapping.tp=2", "mapping.pp=4"), "steady", [("schedule", "{}", *FEW), PLAN, ("topology", "{}")]),
    "collective": (LPU, (), "steady", [("collective", "{}", "--ranks", "4")]),
    "power": (
        LPU,
        ("power=hall", "power.rack_cap=90 kW", "power.pdu_cap=900 kW", "power.site_cap=9 MW", *SMALL),
        "steady",
        [RUN, ("power", "{}", *FEW)],
    ),
    "faults": (
        "1rack",
        ("faults.events=[{at: 3 ms, part: chip, index: 0}]", "faults.repair=1 s", "faults.detect=1 ms"),
        "all at once",
        [RUN],
    ),
    "engine": (
        GPU,
        (
            *("serving.engine=vllm", "network.replications=1", "llm=mixtral-8x7b", "mapping.tp=4", "mapping.replicas=2"),
            *("serving.prefill_replicas=1", "mapping.prefill.tp=4", "mapping.prefill.attention_dp=2", "mapping.prefill.ep=2"),
            *("mapping.attention_dp=2", "mapping.ep=2", "mapping.expert_load=zipf"),
        ),
        "spans",
        [RUN],
    ),
    "experts with a capacity": (
        GPU,
        ("network.replications=1", "llm=mixtral-8x7b", "mapping.tp=8", "mapping.experts=capacity", "mapping.capacity_factor=2"),
        "spans",
        [("iteration", "{}", *FEW)],
    ),
    "random faults": (LPU, ("faults.chip_mtbf=1 d", "faults.link_mtbf=1 d", "faults.node_mtbf=1 d", *SMALL), "steady", [RUN]),
    "two replicas": (
        LPU,
        (*TWO, "serving.patience=1 s", "serving.timeout=2 s", "serving.warmup=1 ms", "serving.batch_buckets=[1, 4]"),
        "sessions",
        [RUN],
    ),
    "two pools": (LPU, (*TWO, "serving.prefill_replicas=1"), "steady", [RUN]),
    "drafts": (
        LPU,
        (
            "serving.speculation.draft_tokens=2",
            "serving.speculation.acceptance=0.5",
            "serving.speculation.draft_token=1 us",
            *SMALL,
        ),
        "steady",
        [RUN],
    ),
    "two islands": ("h100x16", ("network.replications=1", "llm=llama-2-7b"), "steady", [ONE, PLAN]),
    "eight bits": (
        GPU,
        (
            "network.replications=1",
            *(f"mapping.{part}=int8" for part in ("weights", "activations")),
            "chip.compute_efficiency_8bit=0.5",
        ),
        "steady",
        [ONE],
    ),
    "all kinds of layers": (
        GPU,
        ("network.replications=1", "llm={folder}/mixed.yaml", "mapping.tp=1", "mapping.pp=1", "mapping.weights=stored"),
        "steady",
        [ONE],
    ),
    "kernels": (
        "h200_sxm",
        (
            *("network.replications=1", "llm={folder}/mixed.yaml", "mapping.tp=1", "mapping.pp=1", "mapping.weights=stored"),
            *("chip.operators.tables={folder}/timings", "chip.operators.library=mine"),
        ),
        "steady",
        [ONE, (*ONE, "--prefill", "64")],
    ),
    "four bits": (
        GPU,
        ("network.replications=1", "mapping.weights=mxfp4", "mapping.activations=mxfp4", "chip.fp4=4 PFLOP/s"),
        "steady",
        [ONE],
    ),
    "one input": ("64chip", ("llm.parallel_attention=true",), "steady", [ONE]),
    "speech": ("64chip", ("llm=whisper-large-v3",), "steady", [ONE]),
    "packets": (
        LPU,
        ("network=infiniband-ndr", "network.jitter=host", "network.load_fraction=0.2", "network.load_pattern=uniform", *SMALL),
        "steady",
        [(*ONE, "--set", "network.replications=2"), RUN],
    ),
    "pauses": (LPU, ("network=roce-400g", "network.routing=ugal", *SMALL), "steady", [ONE]),
    "drops": (LPU, ("network=ethernet-100g", "network.cross_burst=1 us", "network.load_fraction=0.1", *SMALL), "steady", [ONE]),
    "pulls": (LPU, ("network=ultra-ethernet-400g", "network.cables.each=100 ns", *SMALL), "steady", [ONE]),
    "bit errors": (
        LPU,
        ("network=infiniband-ndr", "network.error_rate=1e-9", "network.link_retry=true", *SMALL),
        "steady",
        [ONE],
    ),
    "priced": (
        LPU,
        ("network=infiniband-ndr", "network.fairness=equal_cost", "network.adapter_price=900 USD", *SMALL),
        "steady",
        [ONE, PLAN],
    ),
    "one bus": (LPU, ("network=infiniband-ndr", "network.fairness=pcie", *SMALL), "steady", [ONE]),
    "neighbours": (
        "64chip",
        (
            "network=infiniband-ndr",
            "network.background.micro_batches=0.1",
            "network.background.kv_tokens=10 tokens/s",
            "network.background.host=1 MB/s",
            "llm=bert-large",
            *TWO,
        ),
        "steady",
        [ONE],
    ),
    "cut cables": (
        LPU,
        ("network=infiniband-ndr", "network.faults=[{at: 1 us, chip: 0, adapter: 0, speed_fraction: 0.5}]", *SMALL),
        "steady",
        [ONE],
    ),
    "cut ports": (
        LPU,
        ("network=infiniband-ndr", "network.faults=[{at: 1 us, switch: 0, port: 0, speed_fraction: 0.5}]", *SMALL),
        "steady",
        [ONE],
    ),
}

FABRICS = {
    "racks": {"kind": "lpu_dragonfly", "racks": 1, "nodes_per_rack": 3, "spare_nodes_per_rack": 1},
    "dragonfly": {"kind": "dragonfly", "p": 2, "a": 2, "h": 1, "node_chips": 2},
    "dragonfly+": {"kind": "dragonfly_plus", "p": 2, "leaves": 2, "spines": 2, "h": 1, "node_chips": 2},
    "slim fly": {"kind": "slim_fly", "q": 3, "node_chips": 2},
    "hyperx": {"kind": "hyperx", "dims": [2, 2], "p": 2, "node_chips": 2},
    "fat tree": {"kind": "fat_tree", "endpoints": 8, "radix": 4, "node_chips": 2},
    "leaf and spine": {"kind": "leaf_spine", "endpoints": 8, "leaf_ports_down": 4, "spines": 2, "node_chips": 2},
    "rails": {"kind": "rail_only", "endpoints": 8, "node_chips": 2},
    "torus": {"kind": "torus", "dims": [2, 2, 2]},
    "island": {"kind": "island", "chips": 8},
    "file": {"kind": "custom", "path": "graph.json"},
}
# Read where no topology is asked about: by rows of `dcsim validate`, which price a die or a server alone, and by an LLM's size.
ELSEWHERE = {
    *("LpuChip.die_mm2", "RooflineChip.die_mm2", "LlmSpec.tied_embeddings"),
    *("TcoPrices.pue", "TcoPrices.average_power_fraction"),
}
# Used where another section says nothing: see tests/spec/test_sections.py.
INHERITED = {"LpuChip.local_ports", "LpuChip.global_ports", "LpuChip.software", "RooflineChip.software"}


def tree_of(name, folder):
    """A scenario's topology, every key written out, as plain data; and its commands."""
    topology, settings, workload, commands = SCENARIOS[name]
    path = folder / "workload.yaml"
    path.write_text(WORKLOADS[workload])
    (folder / "mixed.yaml").write_text(MIXED)
    timings = folder / "timings/gemm/mine/1/gemm_perf.parquet"
    timings.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"gemm_dtype": ["bfloat16"], "m": [1], "n": [256], "k": [256], "latency": [0.01]}).to_parquet(timings)
    settings = [setting.replace("{folder}", str(folder)) for setting in settings]
    return load(topology, workload=str(path), settings=settings).spec, commands


def fields_of(section, path=()):
    """(dotted file key, class and field) of everything below a section that is a value, not a section."""
    for name, field in type(section).model_fields.items():
        value, key = section.__dict__[name], (*path, field.alias or name)
        if isinstance(value, Section):
            yield from fields_of(value, key)
        elif isinstance(value, (dict, tuple)) and value and isinstance(next(iter(_parts(value).values())), Section):
            for place, one in _parts(value).items():
                yield from fields_of(one, (*key, place))
        elif value is not None and name != "kind" and not (isinstance(section, Named) and name in LABELS):
            yield ".".join(key), f"{type(section).__name__}.{name}"


def _parts(value):
    return value if isinstance(value, dict) else {str(i): one for i, one in enumerate(value)}


def all_fields(section, seen):
    """Class and field of every value that a topology may hold."""
    if section in seen:
        return set()
    seen.add(section)
    found = set()
    for name, field in section.model_fields.items():
        below = [c for c in section_types(field.annotation) if isinstance(c, type) and issubclass(c, Section)]
        for one in below:
            found |= all_fields(one, seen)
        if not below and name != "kind" and not (issubclass(section, Named) and name in LABELS):
            found.add(f"{section.__name__}.{name}")
    return found


def used_by(spec, unused):
    return {field for key, field in fields_of(spec) if not any(key == one or key.startswith(f"{one}.") for one in unused)}


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    """Ask a command about a topology in this process; returns its JSON, or None where it refuses."""
    import sys

    from dcsim.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.csv").write_text("at,p,o\n0.0,5,2\n0.1,5,2\n")
    (tmp_path / "blocks.jsonl").write_text('{"timestamp": 0, "input_length": 40, "output_length": 2, "hash_ids": [1, 2]}\n' * 2)
    (tmp_path / "vidur.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,50,9\n0.0,50,9\n")
    nodes = [{"id": i, "kind": "chip"} for i in range(2)]
    (tmp_path / "graph.json").write_text(json.dumps({"nodes": nodes, "links": [{"source": 0, "target": 1}]}))

    def run(words, tree):
        (tmp_path / "t.yaml").write_text(json.dumps(tree))
        monkeypatch.setattr(sys, "argv", ["dcsim", *(word.format("t.yaml") for word in words), "--json"])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert code == 0, (words, err)
        return json.loads(out)

    return run


def test_no_key_is_without_effect_everywhere(ask, tmp_path):
    alive, known = set(), all_fields(Topology, set())
    for name in SCENARIOS:
        spec, commands = tree_of(name, tmp_path)
        for words in commands:
            alive |= used_by(spec, ask(words, json.loads(explicit.text(spec)))["unused_keys"])
    for name in (str(tmp_path / "mixed.yaml"), "mixtral-8x7b"):
        llm = load_entry(name, "workloads/llms", LlmSpec)[0]
        alive |= used_by(llm, ask(("llm", "{}"), explicit.plain(llm))["unused_keys"])
    plain = json.loads(explicit.text(load("node").spec))
    for fabric in FABRICS.values():
        (tmp_path / "f.yaml").write_text(json.dumps({**plain, "fabric": fabric}))
        spec = load(str(tmp_path / "f.yaml")).spec
        alive |= used_by(spec, ask(("topology", "{}"), json.loads(explicit.text(spec)))["unused_keys"])
    dead = sorted(known - alive - ELSEWHERE - INHERITED)
    assert not dead, ", ".join(dead)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_said_to_have_no_effect_has_none_in_any_scenario(name, ask, tmp_path):
    spec, commands = tree_of(name, tmp_path)
    tree = json.loads(explicit.text(spec))
    for words in commands:
        said = ask(words, tree)
        again = ask(words, changed(tree, said["unused_keys"]))
        assert {k: v for k, v in again.items() if k not in OF_THE_MOMENT} == {
            k: v for k, v in said.items() if k not in OF_THE_MOMENT
        }


def test_prices_are_no_use_to_a_command_that_says_no_price_of_them(ask, tmp_path):
    keys = {"network.prices.cable": ("run", "power"), "node.buy": ("run", "power", "iteration"), "network.port": ("run", "power")}
    for key, commands in keys.items():
        for command in commands:
            topology = json.loads(explicit.text(load("node", network="infiniband-ndr", settings=SMALL).spec))
            (tmp_path / "w.yaml").write_text(STEADY)
            tree = {**topology, "workload": str(tmp_path / "w.yaml")}
            words = RUN if command == "run" else (command, "{}", *FEW)
            unused = ask(words, tree)["unused_keys"]
            assert any(key == one or key.startswith(f"{one}.") for one in unused), (command, key)
