"""The container files: linted, and their very commands run as processes, as no engine needs to be here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.checkout import IMPORT_PATH, ROOT
from tests.support.patience import PATIENCE_S
from threadmatch.service.access.guard import AccessRules
from threadmatch.service.access.wiring import check_reach
from threadmatch.service.config import Settings
from threadmatch.service.process.commands import program, service
from threadmatch.service.settings_table import settings_table

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = {name: one for name, one in COMPOSE["services"].items() if "build" in one}
"""Our own; tests/test_monitoring.py looks at the others."""
ENV_FILE = ROOT / "deploy" / "threadmatch.env"
ITEMS = 300
"""Photos that ship."""


def env_file() -> str:
    """deploy/threadmatch.env as the settings have it; `python -m tests.test_deploy` prints it."""
    head = (
        "# Settings of `threadmatch serve`, each with its default: take off the # to change one. An option on the\n"
        "# command line wins over a variable. Made from service/config.py; a test compares the two.\n"
    )
    blocks = []
    for name, possible, default, description in settings_table():
        lines = textwrap.wrap(f"{description}; possible: {possible}", 118, initial_indent="# ", subsequent_indent="# ")
        blocks.append("\n".join([*lines, f"#{name}={'' if default in ('required', '(empty)') else default}"]))
    return head + "\n" + "\n\n".join(blocks) + "\n"


def test_the_env_file_lists_every_setting_with_its_default() -> None:
    assert ENV_FILE.read_text() == env_file(), "make it again: python -m tests.test_deploy > deploy/threadmatch.env"


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed here; it comes with the extra dev")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_compose_file_is_one_that_compose_reads(tmp_path: Path) -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("the compose plugin is not installed here")
    done = subprocess.run(
        ["docker", "compose", "-f", ROOT / "docker-compose.yml", "config", "--quiet"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_locked_down(name: str) -> None:
    container = SERVICES[name]
    assert container["read_only"] is True
    assert container["user"] == "10001:10001"
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert any(mount.startswith("/tmp:") for mount in container["tmpfs"])
    for port in container.get("ports", []):
        assert port.startswith("127.0.0.1:"), "open to this machine only, unless its owner says otherwise"
    for mount in container.get("volumes", []):
        volume = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", mount).split(":")[0]
        assert volume in COMPOSE["volumes"]
    for file in container.get("env_file", []):
        assert (ROOT / file).is_file()
    assert container["build"]["target"] in re.findall(r"^FROM .* AS (\S+)$", DOCKERFILE, re.M)


def test_jobs_come_first_and_share_the_gallery_with_the_service() -> None:
    done = "service_completed_successfully"
    assert SERVICES["ingest"]["depends_on"]["sample"]["condition"] == done
    for name in ("search", "search-cuda"):
        assert SERVICES[name]["depends_on"]["ingest"]["condition"] == done
        assert "healthcheck" not in SERVICES[name], "the image's own"
        assert set(SERVICES[name]["volumes"]) - {"keys:/keys:ro"} <= set(SERVICES["ingest"]["volumes"])
    for name in ("sample", "ingest"):
        assert SERVICES[name]["healthcheck"] == {"disable": True}
    assert SERVICES["keys"]["volumes"] == ["keys:/keys"], "the one that makes keys is the one that writes there"
    for mount in SERVICES["ingest"]["volumes"]:
        assert mount.endswith(":ro") == (":/catalogue" in mount), "the catalogue is only read"


@pytest.mark.parametrize("keys", ["", "/keys/keys.json"])
def test_the_service_may_be_reached_from_its_own_machine_only_until_there_are_keys(keys: str, tmp_path: Path) -> None:
    given = {
        name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for name, value in SERVICES["search"]["environment"].items()
    }
    values = {name.removeprefix("THREADMATCH_").lower(): value for name, value in given.items()}
    values["keys"] = keys and str(tmp_path / "keys.json")
    check_reach(Settings.model_validate({**values, "gallery": tmp_path, "host": "0.0.0.0"}))
    rules = AccessRules.of(Settings.model_validate({**values, "gallery": tmp_path, "host": "0.0.0.0"}))
    assert set(rules.hosts) == {"localhost", "127.0.0.1", "search", "search-cuda"}, "the last ones for Prometheus"
    assert (rules.ring is None) == (not keys)


def test_the_image_is_built_from_what_the_builder_is_sent() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.M):
        copied |= {source.removeprefix("./") for source in line.split()[:-1]}
    assert copied == sent
    assert all((ROOT / source).exists() for source in sent)


def test_the_locks_agree_and_leave_the_choice_of_faiss_to_the_image() -> None:
    def pins(lock: str) -> dict[str, str]:
        lines = (ROOT / lock).read_text().splitlines()
        return dict(line.split("==") for line in lines if "==" in line and not line.lstrip().startswith("#"))

    cpu, gpu = pins("requirements.lock"), pins("requirements-gpu.lock")
    assert {name: gpu[name] for name in cpu.keys() & gpu.keys()} == {
        name: cpu[name] for name in cpu.keys() & gpu.keys()
    }
    assert "faiss-cpu" in cpu.keys() - gpu.keys()
    assert "faiss-gpu" in gpu.keys() - cpu.keys()
    assert "pytest" not in gpu


def health_check() -> list[str]:
    """The image's HEALTHCHECK command."""
    found = re.search(r"^HEALTHCHECK[^[]*CMD (\[.*\])$", DOCKERFILE, re.M)
    assert found
    command: list[str] = json.loads(found[1])
    return [sys.executable, *command[1:]]


def test_the_containers_commands_lay_out_photos_ingest_and_serve_them(tmp_path: Path, tiny_model_folder: Path) -> None:
    assert 'ENTRYPOINT ["threadmatch"]' in DOCKERFILE
    places = {"/catalogue": str(tmp_path / "catalogue"), "/gallery": str(tmp_path / "gallery")}
    model = ["--model", str(tiny_model_folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path), "PYTHONPATH": IMPORT_PATH}

    def command(name: str, **more: str) -> list[str]:
        words = [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", word) for word in SERVICES[name]["command"]]
        for container, here in {**places, **more}.items():
            words = [re.sub(rf"^{container}(?=/|$)", here, word) for word in words]
        return words

    whole = ["--box", "none"]  # finding a garment in each of 300 photos takes most of a minute, and is tested elsewhere
    for words in (command("sample"), [*command("ingest"), *model, *whole]):
        done = subprocess.run(
            [*program(), *words], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stderr
    words = command("search", **{"0.0.0.0": "127.0.0.1", "8000": "0"})
    with service([*words, *model, "--device", "cpu"], tmp_path / "serve.log") as running:
        probe = [word.replace("http://127.0.0.1:8000", running.address) for word in health_check()]
        assert probe != health_check()
        assert subprocess.run(probe, check=False).returncode == 0
        photo = next((tmp_path / "catalogue" / "queries").glob("*.jpg"))
        answer = httpx.post(f"{running.address}/search", files={"image": photo.read_bytes()}, timeout=PATIENCE_S)
        assert answer.status_code == 200
        assert answer.json()["gallery"]["items"] == ITEMS
        assert answer.json()["matches"][0]["metadata"].keys() == {"name", "category"}
        assert running.stop() == 0
    assert subprocess.run(probe, check=False, capture_output=True).returncode == 1, "nothing there: unhealthy"


if __name__ == "__main__":
    sys.stdout.write(env_file())
