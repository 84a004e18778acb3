"""The house's own rules, read off every file: which way imports point, what stays out, how long a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

ROOMS = ("model", "indexer", "service")
"""From the ground up: a room imports itself and those before it."""
HOMES = {"torch": "model", "torchvision": "model", "timm": "model", "faiss": "indexer", "fastapi": "service"}
"""Libraries that one room alone imports."""
MAX_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_POSITIONAL = 6
TEXT_SUFFIXES = (
    ".py",
    ".toml",
    ".lock",
    ".md",
    ".yml",
    ".yaml",
    ".env",
    ".cfg",
    ".txt",
    ".html",
    ".js",
    ".css",
    ".json",
)

MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
SOURCES = sorted([*MODULES, *(ROOT / "tests").rglob("*.py")])


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """Top-level package of every import, those inside functions included."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: a relative import hides which room it is of"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_downward_and_each_library_stays_in_its_room(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for imported in imports(path):
        if imported in ROOMS:
            assert ROOMS.index(imported) <= ROOMS.index(room), f"{name(path)} imports {imported}"
        assert HOMES.get(imported, room) == room, f"{name(path)} imports {imported}, which lives in {HOMES[imported]}"
        assert imported != "tests"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_file_runs_data_as_code(path: Path) -> None:
    """No pickle, no eval or exec, no YAML that builds objects, no torch.load of anything but tensors."""
    assert not {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"} & set(imports(path))
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        where = f"{name(path)}:{node.lineno}"
        called = ast.unparse(node.func)
        assert called not in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system"), where
        flags = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert flags.get("shell") != "True", where
        if called == "torch.load":
            assert flags.get("weights_only") == "True", where
        if called in ("np.load", "numpy.load"):
            assert flags.get("allow_pickle", "False") == "False", where


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= MAX_LINES, f"{name(path)} has {lines} lines"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_functions_stay_short_and_say_what_their_arguments_are(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{name(path)}:{node.lineno} {node.name} has {lines} lines"
            positional = len(node.args.posonlyargs) + len(node.args.args)
            assert positional <= MAX_POSITIONAL, (
                f"{name(path)}:{node.lineno} {node.name} takes {positional} by position"
            )


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_public_name_is_documented(path: Path) -> None:
    """Modules, classes and functions without a leading underscore; not the methods of a protocol's `...`."""
    module = tree(path)
    assert ast.get_docstring(module), f"{name(path)} has no docstring"
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name(path)}:{node.lineno} {node.name} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_importing_a_module_changes_nothing(path: Path) -> None:
    """Nothing is called for its effect at the top of a module, but assembling the command line and the like."""
    for node in tree(path).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = ast.unparse(node.value.func)
            assert re.match(r"(\w*app|router)\b", called), f"{name(path)}:{node.lineno} calls {called} on import"
    if not path.is_relative_to(ROOT / "service" / "cli"):  # commands start the process, so they may
        assert "logging.basicConfig" not in path.read_text("utf-8"), name(path)


def tracked_files() -> list[Path]:
    """What git knows of; without git, what lies in the rooms."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        return [ROOT / line for line in listed.split("\0") if line and (ROOT / line).is_file()]
    except (OSError, subprocess.CalledProcessError):
        return SOURCES


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is a setting of the machine; a file that names a host works on some machines only."""
    hosts = [
        ".".join(parts)
        for parts in (
            ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("deb", "debian", "org"), ("docker", "io"),
            ("nvcr", "io"), ("ghcr", "io"), ("quay", "io"), ("download", "pytorch", "org"),
        )
    ]  # fmt: skip
    for path in tracked_files():
        if path.suffix not in TEXT_SUFFIXES and path.name not in ("Dockerfile", "Makefile", "run"):
            continue
        text = path.read_text("utf-8", "replace")
        for host in hosts:
            assert host not in text, f"{name(path)} names {host}"


def test_help_answers_without_the_heavy_libraries() -> None:
    """`threadmatch --help`, and the help of each command, import neither torch nor faiss."""
    code = """
import sys
from service.cli import app
from typer.main import get_command
root = get_command(app)
for command in [root, *root.commands.values()]:
    try:
        command.main([*(() if command is root else ()), "--help"], prog_name="threadmatch")
    except SystemExit as end:
        assert not end.code, end.code
heavy = sorted({"torch", "torchvision", "timm", "faiss", "cv2", "pyarrow"} & set(sys.modules))
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("demo", "bench", "serve", "search", "evaluate", "train", "data"):
        assert command in done.stdout


@pytest.mark.parametrize("module", ["service.demo.run", "model.descriptions", "model.train.decoding"])
def test_what_only_reads_starts_without_torch(module: str) -> None:
    """The demo's own process, and each process that decodes photos, would import it for nothing: seconds a start."""
    code = f"import sys, {module}; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_the_type_checker_passes_over_is_named_with_its_reason() -> None:
    """A bare `type: ignore` hides everything on its line."""
    for path in SOURCES:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            if "type: ignore" in line and path != Path(__file__):
                assert re.search(r"type: ignore\[[\w, -]+\]", line), f"{name(path)}:{number}"
