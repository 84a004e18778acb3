"""A made table as Markdown: our figures beside the paper's, intervals, and where each row comes from."""

from __future__ import annotations

from typing import Any

from threadmatch.model.evaluate.report import interval, percent

SHOWN = ("top1", "top20", "top50")


def table_markdown(result: dict[str, Any]) -> str:
    """The table with its notes; the paper's figures are of other data and only their order compares."""
    lines = [f"## Table {result['table']}: {result['title']}", ""]
    lines += [f"Gallery of {result['gallery']} items, {result['queries']} queries, {result['candidates']} candidates."]
    lines += [
        "In per cent; 95 % intervals by bootstrap over queries, gains paired. The paper's are of its own data.",
        "",
    ]
    make = {"rows": _rows, "methods": _methods, "setups": _setups, "categories": _categories}[result["kind"]]
    lines += [*make(result["rows"]), "", f"    {result['provenance']['command']}", "", *_sources(result["rows"])]
    return "\n".join(lines) + "\n"


def _head(*cells: str) -> list[str]:
    return [_line(*cells), _line(*["---"] * len(cells))]


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _with_interval(figures: dict[str, Any], name: str) -> str:
    own = figures["interval"][name]
    return f"{percent(figures[name])} [{percent(own['low'])}, {percent(own['high'])}]"


def _paper(figures: dict[str, Any]) -> str:
    return " / ".join(f"{figures[name]:.1f}" for name in SHOWN if name in figures) or "-"


def _rows(rows: list[dict[str, Any]]) -> list[str]:
    others = list(rows[0]["gain_over"])
    lines = _head("#", "what", "top-1", "top-20", "top-50", "MRR", *[f"top-1 over {name}" for name in others], "paper")
    for row in rows:
        cells = [row["name"], row["label"], _with_interval(row, "top1")]
        cells += [percent(row[name]) for name in ("top20", "top50", "mrr")]
        cells += ["" if name == row["name"] else interval(row["gain_over"][name]["top1"]) for name in others]
        lines.append(_line(*cells, _paper(row["paper"])))
    return lines


def _methods(rows: list[dict[str, Any]]) -> list[str]:
    lines = _head("method", "top-1", "top-5", "top-20", "top-50", "MRR", "GRNet's gain, top-1", "paper")
    for row in rows:
        cells = [row["label"], _with_interval(row, "top1")]
        cells += [percent(row[name]) for name in ("top5", "top20", "top50", "mrr")]
        cells.append("" if row["name"] == "grnet" else interval(row["grnet_gains"]["top1"]))
        lines.append(_line(*cells, _paper(row["paper"])))
    return lines


def _setups(rows: list[dict[str, Any]]) -> list[str]:
    lines = _head("queries", "n", "method", "top-1", "top-20", "top-50", "GRNet's gain, top-1", "paper")
    for setup in rows[0]["by_setup"]:
        for row in rows:
            own = row["by_setup"][setup]
            gain = "" if row["name"] == "grnet" else interval(own["grnet_gains"]["top1"])
            cells = [setup, str(own["queries"]), row["label"], _with_interval(own, "top1")]
            cells += [percent(own[name]) for name in ("top20", "top50")]
            lines.append(_line(*cells, gain, _paper(row["paper"].get(setup, {}))))
    return lines


def _categories(rows: list[dict[str, Any]]) -> list[str]:
    lines = _head("queries", "n", "method", "top-20", "GRNet's gain, top-20", "paper")
    for category in rows[0]["by_category"]:
        for row in rows:
            own = row["by_category"][category]
            gain = "" if row["name"] == "grnet" else interval(own["grnet_gains"]["top20"])
            paper = row["paper"].get(category.lower())
            cells = [category, str(own["queries"]), row["label"], _with_interval(own, "top20"), gain]
            lines.append(_line(*cells, "-" if paper is None else f"{paper:.1f}"))
    return lines


def _sources(rows: list[dict[str, Any]]) -> list[str]:
    """One line a run; methods share theirs."""
    lines: dict[str, None] = {}
    for row in rows:
        for run in row["runs"]:
            where = run["provenance"]
            seen = where["machine"]
            machine = ", ".join(str(seen[name]) for name in ("cpu", "cores", "gpu", "torch") if name in seen)
            told = f"seed {run['seed']}, {run['seconds']:.0f} s, commit {where['commit']}, {machine}"
            lines[f"- `{run['folder']}`: {told}, `{where['command']}`"] = None
    return list(lines)
