"""Results as tables a person likes to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dcsim.results.metrics import LIMIT_MEANING
from dcsim.units import format_bytes, format_power, format_time

if TYPE_CHECKING:
    from rich.console import Console

    from dcsim.results.records import Run

LINK_CLASSES_SHOWN = 4


def console() -> Console:
    """A rich console on stdout, 100 columns where the terminal does not say."""
    from rich.console import Console

    return Console(width=None if Console().is_terminal else 100, highlight=False, soft_wrap=False)


def print_llm(result: dict[str, Any]) -> None:
    """What an LLM holds and keeps."""
    from rich.table import Table

    out = console()
    active = f"{_billions(result['parameters_active'])} active"
    table = _billions(result["parameters_embedding"])
    out.print(
        f"{result['name']}: {_billions(result['parameters'])} parameters, {active} (the table of tokens, {table}, among them)"
    )
    grid = Table(box=None, show_header=False, pad_edge=False)
    parts = (("text", "text"), ("encoders and towers", "encoders"), ("multi-token prediction, apart", "mtp"))
    for label, key in parts:
        if result[f"parameters_{key}"]:
            grid.add_row(label, _billions(result[f"parameters_{key}"]))
    grid.add_row("weights", f"{format_bytes(result['weights_bytes'])} ({result['precision']})")
    kept = f"{format_bytes(result['kv_bytes'])}, {format_bytes(result['kv_bytes_per_token'])} a token"
    grid.add_row(f"one sequence of {result['context']:,} tokens keeps", f"{kept} ({result['kv_precision']})")
    for kind, count in result["layers"].items():
        grid.add_row("layers" if kind == next(iter(result["layers"])) else "", f"{count} x {kind}")
    for note in result["assumed"]:
        grid.add_row("assumed", note)
    out.print(grid)


def _billions(count: int) -> str:
    return f"{count / 1e9:.4g} B" if count >= 1e9 else f"{count / 1e6:.4g} M"


def print_run(run: Run) -> None:
    """The answer of one run."""
    from rich.table import Table

    s, meta = run.summary, run.meta
    out = console()
    out.print(
        f"{run.spec['name']}: {meta['llm']} on {meta['chips_used']} of {meta['chips_active']} chips "
        f"(tp {meta['tp']}, pp {meta['pp']}, {counted(meta['replicas'], 'replica')}), {network_text(meta)}"
    )
    out.print(
        f"{counted(s['requests_in'], 'request')} in {format_time(s['elapsed_s'])}: {s['requests_finished']:,} finished, "
        f"{s['requests_rejected']:,} rejected, {s['requests_failed']:,} failed, {s['requests_in_flight']:,} in flight"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("p50", "p90", "p99"):
        table.add_column(name, justify="right")
    for label, metric in (
        ("time to first token", "ttft_s"),
        ("time per output token", "tpot_s"),
        ("gap between tokens", "itl_s"),
        ("arrival to last token", "e2e_s"),
    ):
        table.add_row(label, *(_time(s.get(f"{metric}_p{q}")) for q in (50, 90, 99)))
    out.print(table)
    rows = [
        ("speed per user", f"{_number(s['tokens_per_s_per_user_p50'])} tokens/s (median)"),
        ("throughput", f"{_number(s['output_tokens_per_s'])} output tokens/s"),
        (
            "goodput",
            f"{_number(s['goodput_requests_per_s'])} requests/s met TTFT {format_time(meta['slo_ttft_s'])} and "
            f"TPOT {format_time(meta['slo_tpot_s'])} ({_percent(s['slo_met_fraction'])} of all)",
        ),
        ("requests at once", f"{_number(s['concurrency_mean'])} (mean)"),
        ("site power", f"{format_power(s['power_w_mean'] or 0)} mean, {format_power(s['power_w_max'] or 0)} max"),
        ("of that, racks", f"{format_power(s['it_power_w_mean'] or 0)} mean; {pue_text(meta)}"),
        *idle_row(meta),
        *search_rows(meta),
        ("energy", f"{_number(s['energy_j_per_token'])} J per output token at that concurrency"),
        ("limited by", _limit(s)),
        *_token_way(run),
        *_only_if_there(run),
        *_chips(meta),
        *_recompiled(meta),
        *_proved(meta),
        ("engine", engine_text(meta)),
        ("digest", f"{s['digest']} (seed {s['seed']})"),
    ]
    grid = Table(box=None, show_header=False, pad_edge=False)
    for row in rows:
        grid.add_row(*row)
    out.print(grid)
    if len(run.spec["workload"]["classes"]) > 1:
        out.print(_classes(run))


def pue_text(result: Mapping[str, Any]) -> str:
    """What site power is of the racks', and who says so."""
    return f"PUE {result['pue']:.3g} by power: {result['power_entry'] or 'its own figures'}"


def _chips(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What chip zoom carried out, and what rounds leave out of account."""
    if meta.get("zoom", "service") != "chips":
        return []
    margin, after_s = meta["margin_cycles_min"], meta["after_round_s_max"]
    early = f", every vector {_number(margin)} cycles early or more" if margin is not None else ""
    did = f"{counted(meta['iterations_carried_out'], 'iteration')} of {counted(meta['programs_carried_out'], 'program')}"
    if meta["replicas"] > 1:
        did = f"of replica {meta.get('replica_followed', 0)} of {meta['replicas']} alone {did}"
    slots = f"{meta['link_slots_wanted_twice']:,} of {meta['link_slots_used']:,} link slots"
    both = f"wanted by two iterations at once: {slots}, {counted(meta['chips_wanted_twice'], 'chip')}"
    late = f"; the latest ended {format_time(after_s)} after its round" if after_s else ""
    return [("chips", f"{did}, each in its cycle{early}"), ("in flight", both + late)]


def _proved(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Of how many shapes several micro-batches were in flight, and whether those are proved not to meet; a run saved by an
    earlier version says nothing.
    """
    count, proved = meta.get("shapes_in_flight"), meta.get("shapes_proved")
    if not count or proved is None:
        return []
    each = "each at the interval proved for it" if proved == count else f"{proved:,} at the interval proved for them"
    return [("micro-batches", f"in flight of {counted(count, 'shape')}, {each}")]


def idle_row(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A line about chips that no replica uses, if there are any; a run saved by an earlier version says nothing of them."""
    idle = result.get("idle_chips", 0)
    if not idle:
        return []
    spare = result["idle_spare_chips"]
    of_them = "" if not spare else f", {'all' if spare == idle else format(spare, ',')} spares"
    text = (
        f"{idle:,} of {result['chips_installed']:,} in no replica{of_them}: {format_power(result['idle_power_w'], 3)} of site "
        f"power, {result['idle_buy_usd'] / 1e6:,.3g} M USD"
    )
    return [("idle chips", text)]


LIMITS = {
    "kv": "KV room",
    "stage cut": "KV room of the fullest stage",
    "bucket": "the largest compiled batch",
    "chunk": "prompt chunks in the pipeline",
    "pipeline": "the busiest stage",
    "latency": "one token's way through the stages",
}


def search_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the mapping was found, what binds it and which numbers of stages nearby change much; nothing where it was given."""
    found = result.get("search")
    if not found:
        return []
    winner, second, value = found["winner"], found["runner_up"], _value_text(found)
    next_best = "no other fits" if found["mappings"] == 1 else "no other came near"
    if second:
        next_best = f"next {_choice_text(second, found)} with {value(second)}"
    best = f"best for {found['objective']} of {counted(found['mappings'], 'mapping')}: {_choice_text(winner, found)}"
    rows = [("mapping", f"{best} with {value(winner)}; {next_best}")]
    if winner["value"] == 0:
        rows = [
            (
                "mapping",
                f"none of {counted(found['mappings'], 'mapping')} holds the SLO; the fastest is {_choice_text(winner, found)}",
            )
        ]
    near = [f"{counted(it['pp'], 'stage')} ({it['chips']:,} chips) hold {it['kv_tokens']:,}" for it in found["cliffs"]]
    bound = f"bound by {LIMITS[found['limit']]}"
    if near:
        bound += f", {found['kv_tokens']:,} tokens in {counted(winner['pp'], 'stage')}; nearby {', '.join(near)}"
    return [*rows, ("", bound)]


def print_search(out: Console, result: Mapping[str, Any]) -> None:
    """The same as lines."""
    for label, text in search_rows(result):
        out.print(f"{label}: {text}" if label else text)


def _choice_text(choice: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    replicas = f", {choice['replicas']:,} replicas" if choice["replicas"] > 1 else ""
    chunks = f", chunks of {choice['chunk_tokens']:,}" if found["objective"] == "capacity" else ""
    return f"tp {choice['tp']}, pp {choice['pp']}{replicas}{chunks}"


def _value_text(found: Mapping[str, Any]) -> Any:
    """A function that says a choice's value with its unit."""

    def text(choice: Mapping[str, Any]) -> str:
        if choice["value"] is None:
            return f"less than a quarter of the {found['unit']}"
        if found["objective"] == "latency":
            return f"{format_time(choice['value'])} an iteration"
        return f"{_number(choice['value'])} {found['unit']}"

    return text


def engine_text(meta: Mapping[str, Any]) -> str:
    """Who served, and what that took."""
    names = " and ".join({"simpy": "SimPy", "compiled": "compiled copy"}[name] for name in meta["engine"].split(" and "))
    processes = f"{meta['engine_processes']:,} processes, " if meta["engine_processes"] else ""
    return f"{names}: {processes}{meta['engine_events']:,} events"


def what_ran(result: Mapping[str, Any]) -> str:
    """LLM, topology, mapping and network, as they ran."""
    replicas = f", {result['replicas']:,} replicas" if result["replicas"] > 1 else ""
    return f"{result['llm']} on {result['topology']} (tp {result['tp']}, pp {result['pp']}{replicas}), {network_text(result)}"


def _shape(result: Mapping[str, Any]) -> str:
    what = f"{result['new_tokens']} prompt tokens" if result["new_tokens"] > 1 else f"batch {result['batch']}"
    return f"{what} at context {result['context']}"


def network_text(result: Mapping[str, Any]) -> str:
    """The network and the library of its calls, as they ran."""
    library = result.get("software")
    if library is None:
        return str(result["interconnect"])
    return f"{result['interconnect']}, {'no library (ideal)' if library == 'ideal' else f'library {library}'}"


def _classes(run: Run) -> Any:
    """Each class of requests on a line."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for name in ("finished", "of", "p99 TTFT", "p99 TPOT", "met its SLO"):
        table.add_column(name, justify="right")
    for name, rows in run.table("classes").groupby("klass", sort=False):
        s = {metric: None if value != value else value for metric, value in zip(rows["metric"], rows["value"], strict=True)}
        table.add_row(
            str(name),
            f"{s['requests_finished']:,.0f}",
            f"{s['requests_in']:,.0f}",
            _time(s["ttft_s_p99"]),
            _time(s["tpot_s_p99"]),
            _percent(s["slo_met_fraction"]),
        )
    return table


def _token_way(run: Run) -> list[tuple[str, str]]:
    """Where a lone token's time goes, if that is what limits."""
    fractions = run.meta.get("token_fractions", {})
    if run.summary["limited_by"] != "iteration_latency" or not fractions:
        return []
    largest = sorted(fractions, key=lambda part: -float(fractions[part]))[:4]
    return [("one token's way", ", ".join(f"{part} {_percent(fractions[part])}" for part in largest))]


def _only_if_there(run: Run) -> list[tuple[str, str]]:
    """Lines about requests lost, about faults and about KV between separate pools, where there are any."""
    s, copies = run.summary, run.meta.get("kv_copies")
    rows = [
        (why["status"], f"{why['requests']:,}{'' if why['alike'] else ', the first'}: {why['reason']}")
        for why in run.meta.get("reasons", [])
    ]
    if copies:
        rows.append(
            (
                "KV between pools",
                f"{format_bytes(copies['sent_bytes'])} over {copies['links']} links; the busiest, a "
                f"{copies['busiest_class']} one, is held {_percent(copies['busiest_fraction'])} of the time",
            )
        )
    if s["availability_fraction"] < 1 or s["requests_replayed"] or s["goodput_lost_requests_per_s"]:
        again, lost = counted(s["requests_replayed"], "request"), _number(s["goodput_lost_requests_per_s"])
        rows.append(
            (
                "faults",
                f"replicas work {_percent(s['availability_fraction'])} of the time, {again} started again, "
                f"goodput lost {lost} requests/s",
            )
        )
    return rows


def _recompiled(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a node's move to its spare takes, where programs are compiled for it."""
    if meta.get("recompile_s") is None:  # nor has a run of an earlier version
        return []
    programs, took = counted(meta["programs_recompiled"], "program"), format_time(meta["recompile_s"])
    return [("move to a spare", f"{programs} compiled again, {took} by network.compile")]


def counted(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _limit(summary: dict[str, Any]) -> str:
    name = summary["limited_by"]
    if name is None:
        return "-"
    return f"{name}: {LIMIT_MEANING[name]} ({_percent(summary['limited_by_fraction'])} of request time)"


def _time(value: float | None) -> str:
    return "-" if value is None else format_time(value)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.3g} %"


def print_iteration(result: dict[str, Any]) -> None:
    """One iteration: speed and where the time goes."""
    from rich.table import Table

    out = console()
    out.print(
        f"{result['llm']} on {result['chips_used']} chips (tp {result['tp']}, pp {result['pp']}), "
        f"{network_text(result)}: {_shape(result)}"
    )
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_row("one iteration", format_time(result["iteration_s"]))
    grid.add_row("speed per user", f"{_number(result['tokens_per_s_per_user'])} tokens/s")
    grid.add_row(
        "throughput, pipeline full",
        f"{_number(result['tokens_per_s'])} tokens/s, {_number(result['concurrency'])} "
        f"sequences in flight, one micro-batch every {format_time(result['occupancy_s'])}",
    )
    if result["kv_tokens"] is not None:
        grid.add_row(
            "throughput, in KV room",
            f"{_number(result['tokens_per_s_in_kv_room'])} tokens/s, {result['concurrency_in_kv_room']:,} sequences in "
            f"{result['kv_tokens']:,} tokens of room",
        )
    grid.add_row("energy, alone on its chips", f"{_number(result['energy_j'])} J")
    if result["experts_dropped_fraction"] is not None:
        dropped, complete = result["experts_dropped_fraction"], result["experts_complete_fraction"]
        again = f"; run again until complete: {_number(1 / complete)} iterations a token" if complete > 1e-6 else ""
        grid.add_row(
            "experts, no room",
            f"{_percent(dropped)} of visits dropped, {_percent(complete)} of tokens complete in all layers{again}",
        )
    for row in (*idle_row(result), *search_rows(result)):
        grid.add_row(*row)
    out.print(grid)
    parts = Table(box=None, pad_edge=False)
    parts.add_column("where the time goes")
    parts.add_column("time", justify="right")
    parts.add_column("share", justify="right")
    for name, seconds in result["breakdown_s"].items():
        parts.add_row(name, format_time(seconds), _percent(seconds / result["iteration_s"]))
    out.print(parts)


def _payloads(result: dict[str, Any]) -> str:
    """The payload of the links, by class where classes differ."""
    rows = [(row["class"], row["least_bytes_per_s"], row["most_bytes_per_s"]) for row in result["link_payloads"]]
    rates = [rate for _, *span in rows for rate in span]
    if len(set(rates)) < 2:
        return f"{_rate(result['link_payload_bytes_per_s'])} of payload each"
    if len(rows) > LINK_CLASSES_SHOWN:
        return f"{_rate(min(rates))} to {_rate(max(rates))} of payload each"
    shown = (f"{name} {_rate(least)}" + (f" to {_rate(most)}" if most > least else "") for name, least, most in rows)
    return f"payload each: {', '.join(shown)}"


def _as_published(result: dict[str, Any]) -> str:
    """The two other counts of hops in which papers describe this wiring; of another nobody said anything."""
    if result["kind"] != "lpu_dragonfly":
        return ""
    return f"; {result['diameter_routers']} with nodes as routers, {result['diameter_published']} as papers count"


def print_topology(result: dict[str, Any]) -> None:
    """What a topology is."""
    from rich.table import Table

    out = console()
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_row(
        "chips",
        f"{result['chips']:,} installed, {result['chips_active']:,} active, "
        f"{result['nodes']:,} nodes, {counted(result['racks'], 'rack')}",
    )
    grid.add_row("links", f"{result['links']:,} directed, {_payloads(result)}")
    grid.add_row(
        "hops",
        f"{result['diameter_hops']} at most from chip to chip, {result['mean_hops']:.3f} on average{_as_published(result)}",
    )
    grid.add_row(
        "bisection",
        f"{_rate(result['bisection_bytes_per_s'])} one way, "
        f"{_rate(result['bisection_bytes_per_s_per_chip'])} a chip (best cut found)",
    )
    parts = result["parts"]
    switched = f"{parts['adapters']:,} adapters, {parts['switch_ports']:,} switch ports, " if parts["switch_ports"] else ""
    more = f" and {counted(parts['switch_racks'], 'rack')} of switches" if parts["switch_racks"] else ""
    grid.add_row(
        "network",
        f"{result['interconnect']}: {switched}{parts['cables']:,} cables{more}: {format_power(result['network_w'])}, "
        f"{result['network_usd'] / 1000:,.1f} k USD",
    )
    out.print(f"{result['name']}: {result['kind']}")
    out.print(grid)
    cables = Table(box=None, pad_edge=False)
    cables.add_column("cables")
    for name in ("count", "shortest", "longest", "all together"):
        cables.add_column(name, justify="right")
    for kind in dict.fromkeys(cable["class"] for cable in result["cables"]):
        own = [(cable["length_m"], cable["count"]) for cable in result["cables"] if cable["class"] == kind]
        lengths, total_m = [length for length, _ in own], sum(length * count for length, count in own)
        count = sum(number for _, number in own)
        cables.add_row(kind, f"{count:,}", f"{min(lengths):g} m", f"{max(lengths):g} m", f"{total_m:,.0f} m")
    out.print(cables)


def print_schedule(result: dict[str, Any]) -> None:
    """What compiling, proving and replaying found."""
    from rich.table import Table

    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_row("makespan", f"{result['makespan_cycles']:,} cycles, {result['bound_ratio']:.3f} x the bound")
    grid.add_row(
        "bound",
        f"{result['bound_cycles']:,} cycles (critical path {result['critical_cycles']:,}, busiest link "
        f"{result['busiest_link_cycles']:,})",
    )
    grid.add_row(
        "program",
        f"{result['tasks']:,} tasks, {result['bursts']:,} bursts, {result['vector_hops']:,} vector-hops; "
        f"busiest link used {_percent(result['link_use_fraction_max'])}",
    )
    grid.add_row("proof", f"{result['conflicts']} conflicts in {format_time(result['prove_s'])}")
    grid.add_row(
        "replay",
        f"{result['replay_cycles']:,} cycles on perfect clocks, {result['replay_drifting_cycles']:,} on "
        f"drifting ones ({result['processes']:,} processes, {result['deskew_points']} deskew points)",
    )
    grid.add_row("in flight", _in_flight(result))
    used, needed, drawn = (result[f"slack_cycles{end}"] for end in ("", "_needed", "_min"))
    grid.add_row("slack", f"{used} cycles a link, {needed} safe however clocks are drawn; these took {drawn}")
    held, early = result["receive_vectors"], result["early_cycles_max"]
    grid.add_row(
        "receivers", f"hold {held} vectors of each link until they are read; the earliest waited {_number(early)} cycles"
    )
    grid.add_row(
        "bit errors",
        f"{_number(result['error_replays_per_day'])} iterations replayed a day, "
        f"{format_time(result['error_replay_s_per_day'])} and {_number(result['error_replay_j_per_day'])} J",
    )
    grid.add_row(
        "compiled in", f"{format_time(result['compile_s'])}, {result['pieces_compiled']} different of {result['pieces']:,} pieces"
    )
    for row in search_rows(result):
        grid.add_row(*row)
    out = console()
    out.print(f"{what_ran(result)}: {_shape(result)}")
    out.print(grid)


def _in_flight(result: dict[str, Any]) -> str:
    """How closely micro-batches follow one another."""
    if result["chips_of_two_stages"]:
        return f"not looked for: {counted(result['chips_of_two_stages'], 'chip')} of two stages, the head beside layers"
    if result["interval_cycles"] is None:
        return "no interval found at which micro-batches do not meet, up to twice the bound"
    longer = result["in_flight_makespan_cycles"] / result["makespan_cycles"]
    return (
        f"a micro-batch every {result['interval_cycles']:,} cycles, {result['interval_ratio']:.3f} x the bound, "
        f"each {longer:.3f} x as long as alone; 0 conflicts"
    )


def print_collective(result: dict[str, Any], form: str) -> None:
    """One collective, as text or as nccl-tests prints it."""
    if form == "nccl":
        from dcsim.cli.nccl_tests import lines

        print("\n".join(lines(result)))
        return
    work = f"{result['cycles']:,} cycles" if "cycles" in result else f"{result['packets']:,} packets"
    way = " ".join(filter(None, (result["algorithm"], result["protocol"])))
    print(
        f"{network_text(result)}: {result['op']} ({way}) of {result['size_bytes']:,} B "
        f"among {result['ranks']} chips: "
        f"{format_time(result['time_s'])} ({work}), {_rate(result['algorithm_bandwidth_bytes_per_s'])}, "
        f"bus {_rate(result['bus_bandwidth_bytes_per_s'])}"
    )


def _rate(value: float) -> str:
    return f"{format_bytes(value)}/s"


def print_capacity(result: dict[str, Any]) -> None:
    """Where a cluster stops meeting its SLO."""
    from rich.table import Table

    out = console()
    out.print(what_ran(result))
    table = Table(box=None, pad_edge=False)
    for name in ("x rate", "requests/s", "p99 TTFT", "p99 TPOT", "at once", "power", "SLO"):
        table.add_column(name, justify="right")
    table.add_column("limited by")
    for t in result["tries"]:
        table.add_row(
            f"{t['rate_scale']:.3g}",
            f"{t['requests_per_s']:.3g}",
            _time(t["ttft_s_p99"]),
            _time(t["tpot_s_p99"]),
            _number(t["concurrency_mean"]),
            format_power(t["power_w_mean"] or 0),
            "holds" if t["holds"] else "missed",
            f"{t['limited_by']} ({_percent(t['limited_by_fraction'])})",
        )
    out.print(table)
    out.print(
        f"holds p99 TTFT {format_time(result['slo_ttft_s'])} and p99 TPOT {format_time(result['slo_tpot_s'])} up to "
        f"{result['capacity_requests_per_s']:.3g} requests/s ({result['rate_scale']:.3g} x the workload's rate)"
    )
    out.print(f"at {result['overload']:g} x that rate the limit is {_limit(result)}")
    print_search(out, result)
    out.print(f"power: at the site's meter, {pue_text(result)}")
    out.print(f"engine: {engine_text(result)}")


def print_repeat(result: dict[str, Any]) -> None:
    """Metrics over several seeds."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(f"{result['seeds']} seeds")
    for name in ("mean", "+-", "unit"):
        table.add_column(name, justify="right")
    for name, value in result["metrics"].items():
        table.add_row(name, _number(value["mean"]), _number(value["half_width"]), value["unit"])
    out = console()
    out.print(what_ran(result))
    out.print(table)
    if not result["random"]:
        out.print(f"nothing here is random: all {result['seeds']} seeds gave the same run, and one would have done")
    print_search(out, result)
    out.print(f"engine: {engine_text(result)}")


def print_workload(result: dict[str, Any]) -> None:
    """What a workload looks like, with its rate over time as a line of blocks."""
    from rich.table import Table

    out = console()
    out.print(
        f"{result['name']} ({result['kind']}, seed {result['seed']}): {result['requests']:,} requests in "
        f"{format_time(result['span_s'])}"
    )
    counts, interval_s = result["rate_over_time"]["requests"], result["rate_over_time"]["interval_s"]
    top = max(counts, default=0)
    bars = "".join(" \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"[-(-8 * count // top) if top else 0] for count in counts)
    out.print(f"{bars}  up to {_number(top / interval_s)} requests/s over {format_time(interval_s)}")
    if result["failed_rows"]:
        out.print(f"left out: {counted(result['failed_rows'], 'row')} of failed requests")
    grid = Table(box=None, show_header=False, pad_edge=False)
    peak = _number(result["peak_over_mean"])
    grid.add_row("rate", f"{_number(result['rate_per_s'])} requests/s, busiest second {peak} x the mean")
    grid.add_row("gaps", f"coefficient of variation {_number(result['gap_cv'])} (Poisson: 1)")
    windows = ", ".join(f"{_number(result[f'dispersion_{w}s'])} over {w} s" for w in (1, 10, 60))
    grid.add_row("dispersion", f"{windows} (Poisson: 1)")
    for name in ("prompt_tokens", "output_tokens"):
        own = result[name]
        quantiles = ", ".join(f"{q} {_number(own[q])}" for q in ("mean", "p50", "p90", "p99"))
        grid.add_row(name.replace("_", " "), f"{quantiles}, max {own['max']:,}")
    out.print(grid)
