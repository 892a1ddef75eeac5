"""Pictures of several systems that serve the same LLMs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dcsim.results.pictures import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, dress

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK)
MEASURES = (("usd_per_mtoken", "USD per million tokens"), ("j_per_mtoken", "J per million tokens"))


def cost_against_speed(result: Mapping[str, Any]) -> Figure:
    """USD and J per million output tokens against tokens/s of one user: a column an LLM, a line a system (`study.systems`).

    Lines join the loads that no other of the same system beats. Both axes are logarithmic.
    """
    from plotly.subplots import make_subplots

    llms = result["llms"]
    names = list(dict.fromkeys((head["topology"], head["interconnect"]) for head in result["systems"]))
    figure = make_subplots(len(MEASURES), len(llms), subplot_titles=llms, horizontal_spacing=0.06, vertical_spacing=0.1)
    shown = set()
    for column, llm in enumerate(llms, 1):
        for i, (topology, network) in enumerate(names):
            system = (llm, topology, network)
            rows = [row for row in result["rows"] if row["best"] and (row["llm"], row["topology"], row["interconnect"]) == system]
            for line, (key, title) in enumerate(MEASURES, 1):
                figure.add_scatter(
                    x=[row["tokens_per_s_per_user"] for row in rows],
                    y=[row[key] for row in rows],
                    name=f"{topology}, {network}",
                    legendgroup=str(i),
                    showlegend=bool(rows) and i not in shown and line == 1,
                    mode="lines+markers",
                    line={"color": COLOURS[i % len(COLOURS)], "dash": "solid" if i < len(COLOURS) else "dash"},
                    customdata=[[row["users"], row["tp"], row["replicas"]] for row in rows],
                    hovertemplate="%{x:.4~s} tokens/s per user, %{y:.4~s}<br>%{customdata[0]} users, "
                    "%{customdata[2]} replicas of tp %{customdata[1]}",
                    row=line,
                    col=column,
                )
                figure.update_yaxes(type="log", title=title if column == 1 else None, row=line, col=column)
                figure.update_xaxes(
                    type="log", title="tokens/s per user" if line == len(MEASURES) else None, row=line, col=column
                )
            if rows:
                shown.add(i)
    return dress(figure, legend=True, empty=not result["rows"], height=720)
