"""deploy/: dashboard, scrape configuration and alerts name what the service exposes; the compose profile fits."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.checkout import ROOT
from tests.support.patience import PATIENCE_S
from tests.support.serving import post
from threadmatch.service.watching.metrics import Metrics

DEPLOY = ROOT / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "threadmatch.json").read_text())
SCRAPE: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
ADDED_BY_PROMETHEUS = {"instance", "job", "pid"}
"""Labels that a scrape adds, and the one that several workers add to what is a worker's own."""

SELECTOR = re.compile(r"\b(threadmatch_\w+)(?:\{([^}]*)\})?")


def expressions() -> Iterator[tuple[str, str]]:
    """Where each expression stands, and the expression."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


async def exposed(client: httpx.AsyncClient) -> dict[str, set[str]]:
    """Every series of the live /metrics with its labels, after a search, a refusal and a look at readiness."""
    assert (await post(client)).status_code == 200
    assert (await post(client, b"no photo")).status_code == 422
    assert (await client.get("/health/ready")).status_code == 200
    series: dict[str, set[str]] = {}
    async with asyncio.timeout(PATIENCE_S):  # until the service has looked for a newer generation once
        while "threadmatch_gallery_newer_refused{" not in (text := (await client.get("/metrics")).text):
            await asyncio.sleep(0.05)
    for family in [*text_string_to_metric_families(text), *of_a_cluster()]:
        for sample in family.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
        if family.type == "counter":  # one with labels has no series before it first counts
            series.setdefault(f"{family.name}_total", set())
    return series


def of_a_cluster() -> list[Metric]:
    """What a service over a cluster exposes beside that, once an engine was asked in vain."""
    metrics = Metrics()
    metrics.engine_calls.retried("store")
    metrics.engine_calls.ended("store", "read", 2.0, "unavailable")
    return [
        family
        for family in text_string_to_metric_families(metrics.exposition("")[0].decode())
        if family.name.startswith("threadmatch_cluster_")
    ]


async def test_every_expression_names_metrics_and_labels_that_exist(client: httpx.AsyncClient) -> None:
    series = await exposed(client)
    failures = {"threadmatch_model_failures_total": {"stage"}}  # counted from the first failure on
    checked = 0
    for place, expression in expressions():
        for name, selection in SELECTOR.findall(expression):
            assert name in series, f"{place!r} asks for {name}, which /metrics does not have"
            labels = series[name] | failures.get(name, set()) | ADDED_BY_PROMETHEUS
            assert set(re.findall(r"(\w+)(?:=~?|!=|!~)\"", selection)) <= labels, f"{place!r}: {selection}"
            checked += 1
    assert checked >= len(PANELS) + len(RULES) - 1, "all but `up`"


async def test_every_metric_is_looked_at_somewhere(client: httpx.AsyncClient) -> None:
    asked = {name for _, expression in expressions() for name, _ in SELECTOR.findall(expression)}
    families = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in asked}
    for name in await exposed(client):
        family = re.sub(r"_(bucket|sum|count|total|created)$", "", name)
        assert family in families or not name.startswith("threadmatch_"), f"no panel and no alert shows {name}"


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)
    assert DASHBOARD["uid"]
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for panel in PANELS:
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables | {"__rate_interval"}
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells


def test_every_alert_is_explained_in_the_runbook() -> None:
    section = OPERATIONS.split("## Alerts")[1].split("\n## ")[0]
    explained = re.findall(r"^\| `(\w+)` \|", section, re.M)
    assert sorted(explained) == sorted(rule["alert"] for rule in RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]


def test_the_compose_profile_watches_the_service() -> None:
    services = {name: one for name, one in COMPOSE["services"].items() if one.get("profiles") == ["monitoring"]}
    assert services.keys() == {"prometheus", "grafana"}
    for one in services.values():
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in one["ports"])
        assert re.search(r":v?\d+\.\d+\.\d+$", one["image"]), "a version, not whatever is newest"
        for mount in one["volumes"]:
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    (job,) = SCRAPE["scrape_configs"]
    host, port = job["static_configs"][0]["targets"][0].split(":")
    assert host in COMPOSE["services"]
    assert port in COMPOSE["services"][host]["command"]
    assert job["job_name"] == "threadmatch", "as the alert on `up` says"
    mounts = {mount.split(":")[1]: mount.split(":")[0] for one in services.values() for mount in one["volumes"]}
    for file in SCRAPE["rule_files"]:
        assert (ROOT / mounts[file]).is_file()
    source = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    provider = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "dashboards" / "threadmatch.yml").read_text())
    assert provider["providers"][0]["options"]["path"] in mounts


def test_prometheus_itself_takes_the_files(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed here; it comes with Prometheus")
    for name in ("prometheus.yml", "alerts.yml"):
        text = (DEPLOY / "prometheus" / name).read_text()
        (tmp_path / name).write_text(text.replace("/etc/prometheus/", f"{tmp_path}/"))
    done = subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
