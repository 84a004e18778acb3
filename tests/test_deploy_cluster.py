"""What comes along for clusters of machines: manifests that Kubernetes's schemas accept, settings that are read."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.checkout import ROOT
from threadmatch.indexer.cluster.settings import ClusterSettings
from threadmatch.service import replicas
from threadmatch.service.bench.ray_nodes import PROXIES
from threadmatch.service.config import Settings

FOLDER = ROOT / "deploy" / "kubernetes"
MANIFESTS: list[dict[str, Any]] = [
    one for path in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text("utf-8"))
]
OF_OPERATORS = ("milvus.io/v1beta1", "ray.io/v1")
OWN = [one for one in MANIFESTS if one["apiVersion"] not in OF_OPERATORS]
PODS = [one for one in OWN if one["kind"] in ("Deployment", "StatefulSet", "Job")]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))


def named(one: dict[str, Any]) -> str:
    return f"{one['kind']} {one['metadata']['name']}"


@pytest.mark.parametrize("manifest", OWN, ids=named)
def test_a_manifest_is_one_that_kubernetes_reads(manifest: dict[str, Any]) -> None:
    linter = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed; extra dev")
    linter.validate(manifest, linter.latest_version(), strict=True)


@pytest.mark.parametrize("manifest", PODS, ids=named)
def test_a_pod_is_locked_down_and_asks_for_what_it_takes(manifest: dict[str, Any]) -> None:
    claims = {claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", [])}
    check_pod(manifest["spec"]["template"]["spec"], claims, probed=manifest["kind"] != "Job")


def check_pod(pod: dict[str, Any], claims: set[str], *, probed: bool) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= container["resources"].keys()
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]} | claims
        assert not probed or {"livenessProbe", "readinessProbe"} <= container.keys()


def test_replicas_of_ray_are_locked_down_and_say_what_the_service_understands() -> None:
    (manifest,) = (one["spec"] for one in MANIFESTS if one["kind"] == "RayService")
    nodes = [manifest["rayClusterConfig"]["headGroupSpec"], *manifest["rayClusterConfig"]["workerGroupSpecs"]]
    for node in nodes:
        pod = node["template"]["spec"]
        check_pod(pod, set(), probed=True)
        (found,) = (one["value"] for one in pod["containers"][0]["env"] if one["name"].startswith("RAY_SERVE"))
        assert found == PROXIES["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    (application,) = yaml.safe_load(manifest["serveConfigV2"])["applications"]
    assert import_module(application["import_path"].partition(":")[0]).app is replicas.app
    scale, settings = replicas.understood(application["args"])
    assert settings.gallery == Path("cluster://shop@/etc/threadmatch/cluster.toml")
    assert scale.cpus <= int(nodes[1]["rayStartParams"]["num-cpus"])
    assert nodes[1]["minReplicas"] > scale.min_replicas  # room for a rolling update
    assert nodes[1]["maxReplicas"] > scale.max_replicas


def test_the_operator_starts_the_ray_that_the_extra_installs() -> None:
    (manifest,) = (one["spec"] for one in MANIFESTS if one["kind"] == "RayService")
    (wanted,) = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["ray"]
    assert wanted == f"ray[serve]=={manifest['rayClusterConfig']['rayVersion']}"


def test_what_must_outlive_a_node_has_a_budget() -> None:
    budgets = {one["metadata"]["name"] for one in OWN if one["kind"] == "PodDisruptionBudget"}
    assert budgets == {one["metadata"]["name"] for one in PODS if one["kind"] != "Job"}


def test_the_settings_of_the_manifests_and_of_compose_are_read(tmp_path: Path) -> None:
    (config,) = (one["data"]["cluster.toml"] for one in OWN if one["kind"] == "ConfigMap")
    texts = (config, COMPOSE["configs"]["cluster"]["content"])
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.toml").write_text(text, "utf-8")
        ClusterSettings.read(tmp_path / f"{number}.toml")
    read = ClusterSettings.read(tmp_path / "0.toml").store
    (store,) = (one for one in PODS if one["kind"] == "StatefulSet")
    assert (read.cluster, read.wait_replicas) == (True, 1)
    assert all(node.startswith(store["metadata"]["name"]) for node in read.nodes)


def test_variables_of_the_manifests_are_settings() -> None:
    for pod in PODS:
        for container in pod["spec"]["template"]["spec"]["containers"]:
            for variable in container.get("env", []):
                field = variable["name"].removeprefix("THREADMATCH_").lower()
                assert field in Settings.model_fields


def test_the_engines_of_the_compose_profile_are_of_one_version_and_reached_by_ours_only() -> None:
    engines = {name: COMPOSE["services"][name] for name in ("milvus", "store")}
    for one in engines.values():
        assert one["profiles"] == ["cluster"]
        assert "ports" not in one
        assert one["cap_drop"] == ["ALL"]
        assert not one["image"].endswith("latest")
    assert COMPOSE["services"]["search-cluster"]["configs"] == COMPOSE["services"]["copy-cluster"]["configs"]
