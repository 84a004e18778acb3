"""What is installed: wheel, sdist and an editable checkout, each in an environment of its own, without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "model", "indexer", "service", "src")
"""What the Dockerfile copies, too."""
TIME_LIMIT_S = 300
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("THREADMATCH_", "PIP_")) and name not in ("PYTHONPATH", "VIRTUAL_ENV")
}
PIP = ("--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that has to go well; what it printed."""
    done = subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with nothing installed in it, that can import what the tests' own one holds."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Environment:
        venv.create(folder, with_pip=False, symlinks=True)
        made = cls(folder)
        # A path in a .pth file is searched last, and its own .pth files are not read: a checkout that the tests'
        # environment holds as editable stays unseen.
        (made.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        return made

    @property
    def packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name

    def install(self, *what: str | Path) -> None:
        """With the tests' pip, into this environment."""
        python = self.program("python")
        install = ("install", "--no-compile")  # most of it is not imported here
        run(sys.executable, "-m", "pip", "--python", python, *install, *PIP, *what, cwd=self.folder)

    def python(self, code: str) -> str:
        """What the code prints, run in an empty folder."""
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        return run(self.program("python"), "-c", code, cwd=empty).strip()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh copy of what is built from: builds leave files behind."""
    folder = tmp_path_factory.mktemp("checkout") / "threadmatch"
    folder.mkdir()
    litter = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in SOURCES:
        source, copy = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, copy, symlinks=True, ignore=litter)
        else:
            shutil.copy(source, copy)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", *PIP, "--wheel-dir", out, checkout, cwd=out)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel in it."""
    made = Environment.make(tmp_path_factory.mktemp("installed") / "venv")
    made.install(wheel)
    return made


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def expected() -> set[str]:
    """Every file of ours that a user needs, where a wheel has it."""
    listed = {"threadmatch/__init__.py", "threadmatch/py.typed"}
    for room in ("model", "indexer", "service"):
        for path in (ROOT / room).rglob("*"):
            inside = path.relative_to(ROOT / room)
            if path.is_file() and "__pycache__" not in path.parts:
                wanted = path.suffix in (".py", ".html") or path.name == "py.typed"
                if wanted or inside.parts[0] == "page" or {"weights", "photos"} & set(inside.parts):
                    listed.add(f"threadmatch/{room}/{inside.as_posix()}")
    return listed


def test_a_wheel_holds_the_three_rooms_their_data_and_nothing_else(wheel: Path) -> None:
    held = files(wheel)
    assert held == expected()
    assert "threadmatch/model/weights/grnet-lite0/model.safetensors" in held
    assert "threadmatch/model/weights/grnet-lite0/alignment/model.safetensors" in held, "parts too"
    assert "threadmatch/service/page/index.html" in held
    assert "threadmatch/service/demo/photos/clothing/items.csv" in held
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        said = archive.read(metadata).decode()
    assert tops == {"threadmatch"}, "a package named model or service would meet a user's own"
    assert "Private :: Do Not Upload" not in said


def test_an_sdist_makes_the_same_wheel(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    code = f"import setuptools.build_meta as build; print(build.build_sdist({str(tmp_path)!r}))"
    name = run(sys.executable, "-c", code, cwd=checkout).splitlines()[-1]
    with tarfile.open(tmp_path / name) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()], "links point out of it"
    run(sys.executable, "-m", "pip", "wheel", *PIP, "--wheel-dir", tmp_path, tmp_path / name, cwd=tmp_path)
    (again,) = tmp_path.glob("*.whl")
    assert files(again) == files(wheel)


def test_the_images_layer_of_dependencies_needs_no_code(checkout: Path, tmp_path: Path) -> None:
    """The Dockerfile installs what the project depends on before it copies the rooms."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"mkdir -p /src/src$", dockerfile, re.M)
    assert re.search(r"^WORKDIR /src$", dockerfile, re.M)
    bare = tmp_path / "bare"
    (bare / "src").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(checkout / name, bare / name)
    run(sys.executable, "-m", "pip", "wheel", *PIP, "--wheel-dir", tmp_path, bare, cwd=tmp_path)
    (empty,) = tmp_path.glob("*.whl")
    assert files(empty) == set()


def test_the_images_layer_of_code_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """COPY keeps a link inside a copied folder as a link, so the rooms have to stand where the links look for them."""
    copies = re.findall(r"^COPY (?!--from)(.+) (\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    place = tmp_path / "src"  # WORKDIR
    place.mkdir()
    for sources, target in dict.fromkeys(copies):  # both builds copy the same
        for name in sources.split():
            if (ROOT / name).is_dir():
                litter = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(ROOT / name, place / target, symlinks=True, ignore=litter, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / name, place / target)
    assert (place / "src" / "threadmatch" / "model").is_symlink()
    run(sys.executable, "-m", "pip", "wheel", *PIP, "--wheel-dir", tmp_path, place, cwd=tmp_path)
    (made,) = tmp_path.glob("*.whl")
    assert files(made) == files(wheel)


def test_what_the_wheel_installs_works_by_itself(installed: Environment) -> None:
    rooms = "[u.find_spec(room) for room in ('model', 'indexer', 'service')]"
    assert installed.python(f"import importlib.util as u; print({rooms})") == "[None, None, None]"
    code = """
import threadmatch
print(threadmatch.__file__, *(getattr(threadmatch, name) for name in threadmatch.__all__))
print(threadmatch.load_model("grnet-lite0").image_px)
"""
    said, image_px = installed.python(code).splitlines()
    where, _, objects = said.partition(" ")
    assert Path(where).is_relative_to(installed.packages)
    assert objects.count("threadmatch.service") >= 2, "the two classes; all five were imported"
    assert image_px == "224"


def test_its_commands_answer(installed: Environment) -> None:
    empty = installed.folder / "empty"
    empty.mkdir(exist_ok=True)
    assert "ingest" in run(installed.program("threadmatch"), "--help", cwd=empty)
    said = run(installed.program("python"), "-m", "threadmatch.service", "--help", cwd=empty)
    assert "--gallery" in said


def test_an_editable_install_is_the_checkout(checkout: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkout, tmp_path / "checkout", symlinks=True)
    environment = Environment.make(tmp_path / "venv")
    environment.install("--editable", copy)
    code = (
        "import threadmatch.model.config as m, threadmatch.service.config as c; print(m.__file__, c.__file__, sep='|')"
    )
    for found in environment.python(code).split("|"):
        assert Path(found).resolve().is_relative_to(copy)
    with (copy / "service" / "__init__.py").open("a") as file:
        file.write("EDITED = 7\n")
    assert environment.python("import threadmatch.service as s; print(s.EDITED)") == "7"
    assert environment.python("import importlib.util as u; print(u.find_spec('model'))") == "None"
    assert "ingest" in run(environment.program("threadmatch"), "--help", cwd=tmp_path)
