"""The benchmark's result as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def show_bench(result: dict[str, Any], console: Console) -> None:
    """Print everything that `run_bench` measured."""
    machine = result["machine"]
    console.print(f"$ {result['command']}", soft_wrap=True)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), soft_wrap=True)
    if "rerank" in result:
        _show_parts(result, console)
    if "ingestion" in result:
        _show_ingestion(result, console)
    if "latency" in result:
        _show_searches(result, console)


def _show_parts(result: dict[str, Any], console: Console) -> None:
    _table(
        console,
        "Reranking, float32: pairs a second by both implementations, work of a pair",
        ("model", "MFLOP", "literal", "serving", "ratio", "matrix GFLOP/s", "share of it"),
        [
            (
                row["model"],
                f"{row['needed_mflop']:.0f}",
                f"{row['literal_pairs_per_s']:.0f}",
                f"{row['serving_pairs_per_s']:.0f}",
                f"{row['serving_pairs_per_s'] / row['literal_pairs_per_s']:.2f}",
                f"{row['matrix_gflops']:.0f}",
                f"{row['share']:.0%}",
            )
            for row in result["rerank"]
        ],
    )
    _table(
        console,
        "Encoding and parsing photos by each engine; the one that serves is named",
        ("model", "serves", "engine", "one photo, ms", "batch", "images a second"),
        [
            (
                row["model"],
                row["engine"],
                engine,
                f"{row['one_photo_ms'][engine]:.1f}",
                row["batch"],
                f"{row['images_per_s'][engine]:.1f}",
            )
            for row in result["encode"]
            for engine in row["images_per_s"]
        ],
    )
    _table(
        console,
        "Decoding: photos a second and core",
        ("photo", "KB", "a second"),
        [
            (f"{row['width']} x {row['height']}", row["size_bytes"] // 1000, f"{row['images_per_s_per_core']:.0f}")
            for row in result["decode"]
        ],
    )


def _show_ingestion(result: dict[str, Any], console: Console) -> None:
    _table(
        console,
        "Ingestion of drawn garments: pace, and highest memory in MiB",
        ("items", "seconds", "images a second", "main process", "decoding workers"),
        [
            (
                row["items"],
                f"{row['seconds']:.1f}",
                f"{row['images_per_second']:.1f}",
                row["main_peak_mib"] or "unknown",
                "unknown" if row["workers_peak_mib"] is None else row["workers_peak_mib"],
            )
            for row in result["ingestion"]
        ],
    )


def _show_searches(result: dict[str, Any], console: Console) -> None:
    _table(
        console,
        f"POST /search over {result['gallery_items']} items, {result['candidates']} candidates: milliseconds, "
        "processor time by search, mean searches in a call of the model",
        ("workers", "clients", "asked", "a second", "p50", "p95", "p99", "service", "clients'", "batches"),
        [
            (
                row["workers"],
                row["clients"],
                row["way"],
                f"{row['searches_per_s']:.1f}",
                f"{row['p50_ms']:.0f}",
                f"{row['p95_ms']:.0f}",
                f"{row['p99_ms']:.0f}",
                "unknown" if row["processor_ms"] is None else f"{row['processor_ms']:.1f}",
                f"{row['clients_ms']:.1f}",
                ", ".join(f"{stage} {size:.1f}" for stage, size in row["batches"].items()),
            )
            for row in result["latency"]
        ],
    )
    stages = list(result["latency"][0]["stage_share"]) if result["latency"] else []
    _table(
        console,
        "Where that time went, waiting for a turn included",
        ("workers", "clients", "asked", *stages),
        [
            (row["workers"], row["clients"], row["way"], *(f"{row['stage_share'][stage]:.0%}" for stage in stages))
            for row in result["latency"]
        ],
    )


def _table(console: Console, title: str, headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, min_width=min(80, len(title))
    )
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(str, row))
    console.print()
    console.print(table)
