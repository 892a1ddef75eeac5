"""One HTML file that needs no other: figures, tables, what they rest on, what limits them, and the commands that made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcsim.errors import Problem, RunStoreError, SpecError
from dcsim.library import is_file
from dcsim.reading import JSON_MAX, read_json, reading
from dcsim.results import pictures, records
from dcsim.results.metrics import LIMIT_MEANING, METRICS
from dcsim.study.store import Store

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ROWS_MAX = 500  # of a table; the file says how many more there are
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font-family: system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.45;
  color-scheme: light dark; }}
table {{ border-collapse: collapse; font-size: .85rem; margin: .5rem 0 1.5rem; display: block; overflow-x: auto; }}
td, th {{ text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #80889440; vertical-align: top; }}
code {{ font-size: .85rem; overflow-wrap: anywhere; }}
</style><script>{plotly}</script></head><body>
<h1>{title}</h1>
{body}
<h2>How this was made</h2>
<p>dcsim {version}, files {files}.</p>
{commands}
</body></html>
"""


def report(names: Sequence[str], runs: Path, command: str = "") -> str:
    """The page for runs (folders, or the beginnings of their names in `runs`) and JSON answers of plan, sweep and compare.

    SpecError for what is none of these, RunStoreError for a run that cannot be read.
    """
    if not names:
        raise SpecError(Problem("report", "of what?", "name runs, or the --json of a plan, sweep or compare"))
    return page_of([(name, _opened(name, runs)) for name in names], command)


def page_of(found: Sequence[tuple[str, records.Run | Mapping[str, Any]]], command: str = "") -> str:
    """The page for runs and answers that are at hand, each with its name. SpecError for what is none of these."""
    from plotly.offline import get_plotlyjs

    from dcsim import __version__
    from dcsim.study.store import fingerprint

    for name, one in found:
        if not isinstance(one, records.Run) and _kind(one) is None:
            raise SpecError(Problem(name, "not the --json of a plan, sweep or compare"))
    parts = [_part(name, one) for name, one in found]
    told = [command, *(str(one["command"]) for _, one in found if isinstance(one, Mapping) and "command" in one)]
    commands = "".join(f"<p><code>{escape(text)}</code></p>" for text in told if text)
    title = "dcsim report: " + ", ".join(_title(one) for _, one in found)
    page = {"title": escape(title[:200]), "body": "\n".join(parts), "version": __version__, "files": fingerprint()}
    return _PAGE.format(**page, plotly=get_plotlyjs(), commands=commands)


def _part(name: str, one: records.Run | Mapping[str, Any]) -> str:
    return _of_run(one) if isinstance(one, records.Run) else _of_answer(name, one)


def _opened(name: str, runs: Path) -> records.Run | dict[str, Any]:
    path = Path(name).expanduser()
    if is_file(path):
        with reading(path, SpecError):
            content = read_json(path, JSON_MAX)
        if not isinstance(content, dict) or _kind(content) is None:
            raise SpecError(Problem(name, "not the --json of a plan, sweep or compare"))
        return content
    if path.is_dir():
        return records.open_run(path)
    try:
        return Store(runs).open(name)
    except RunStoreError as error:
        raise SpecError(Problem(name, f"no file, no folder, and {error}")) from error


def _kind(content: Mapping[str, Any]) -> str | None:
    if "candidates" in content and "rate_per_s" in content:
        return "plan"
    if "candidates" in content and "mapping" in content:
        return "compare"
    return "sweep" if "rows" in content else None


def _title(one: records.Run | Mapping[str, Any]) -> str:
    return str(one.spec["name"]) if isinstance(one, records.Run) else str(_kind(one))


def _of_run(run: records.Run) -> str:
    summary, meta = run.summary, run.meta
    requests, gaps = run.table("requests"), run.table("gaps")
    figures = [
        pictures.latency(requests, gaps, meta.get("slo_ttft_s"), meta.get("slo_tpot_s")),
        pictures.load(requests, float(summary["elapsed_s"])),
        pictures.power(run.table("power"), float(run.spec["power"]["pue"])),
        pictures.limits(run.table("limits"), LIMIT_MEANING),
    ]
    metrics = [
        {"metric": one.name, "value": summary[one.name], "unit": one.unit, "meaning": one.meaning}
        for one in METRICS
        if one.name in summary
    ]
    prices = [{"figure": key, **said} for key, said in sorted(meta.get("prices", {}).items())]
    made = {key: meta.get(key) for key in ("dcsim_version", "files", "seed", "engine", "interconnect", "software", "tp", "pp")}
    limit = f"{summary['limited_by']}: {LIMIT_MEANING.get(str(summary['limited_by']), '')}"
    return "\n".join(
        [
            f"<h2>{escape(run.description)}</h2>",
            f"<p>Limited by {escape(limit)}.</p>",
            *map(_figure, figures),
            "<h3>Metrics</h3>",
            _table(metrics),
            "<h3>What it rests on</h3>",
            _table([{"key": key, "value": value} for key, value in made.items()]),
            _table(prices),
            f"<p>No effect: {escape(', '.join(meta.get('unused_keys', [])) or 'none')}. "
            f"The resolved spec is spec.json in <code>{escape(str(run.folder))}</code>.</p>",
        ]
    )


def _of_answer(name: str, content: Mapping[str, Any]) -> str:
    kind = str(_kind(content))
    return f"<h2>{kind}: {escape(name)}</h2>\n" + _ANSWERS[kind](content)


def _of_plan(content: Mapping[str, Any]) -> str:
    answer = content["answer"]
    targets = ", ".join(f"{key} {value:g} s" for key, value in content["slo"].items())
    first = f"<p>{content['rate_per_s']:g} requests/s within {escape(targets)}.</p>"
    found = "<p>Nothing that was asked holds.</p>" if answer is None else _table([_flat(answer)])
    return "\n".join(
        [
            first,
            "<h3>Answer</h3>",
            found,
            "<h3>The smallest of each system</h3>",
            _table([_flat(row) for row in content["answers"]]),
            "<h3>What was looked at, and why not smaller</h3>",
            _table([_flat(row) for row in content["candidates"]]),
            "<h3>Limits</h3>",
            "<ul>" + "".join(f"<li>{escape(str(line))}</li>" for line in content.get("assumes", [])) + "</ul>",
        ]
    )


def _of_sweep(content: Mapping[str, Any]) -> str:
    from dcsim.results.pictures_of_sweeps import along

    rows = [_flat(row) for row in content["rows"]]
    keys = [key for key in (rows[0] if rows else {}) if "." in key]
    shown = [name for row in rows[:1] for name, value in row.items() if name not in keys and isinstance(value, float)]
    drawn = [_figure(along(rows, name, keys[0], keys[1:])) for name in shown[:4]] if keys else []
    return "\n".join([*drawn, _table(rows)])


def _of_compare(content: Mapping[str, Any]) -> str:
    return _figure(pictures.waterfall(content["candidates"])) + _table([_flat(row) for row in content["candidates"]])


_ANSWERS: dict[str, Callable[[Mapping[str, Any]], str]] = {"plan": _of_plan, "sweep": _of_sweep, "compare": _of_compare}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not isinstance(value, (list, dict))}


def _figure(figure: Figure) -> str:
    return str(figure.to_html(full_html=False, include_plotlyjs=False))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(_line([row.get(name) for name in names]) for row in rows[:ROWS_MAX])
    more = f"<p>and {len(rows) - ROWS_MAX:,} more</p>" if len(rows) > ROWS_MAX else ""
    return f"<table><tr>{head}</tr>{body}</table>{more}"


def _line(values: Sequence[Any]) -> str:
    return "<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in values) + "</tr>"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
