"""The house's own rules, read off every file: which way imports point, what stays out, how long a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.sources import MODULES, ROOMS, SOURCES, dotted_name, for_each, name, nodes, tree

HOMES = {
    "pymilvus": "indexer",
    "torch": "model",
    "torchvision": "model",
    "timm": "model",
    "triton": "model",
    "faiss": "indexer",
    "fastapi": "service",
}
"""Libraries that one room alone imports."""
SLOW = {"torchvision", "timm", "accelerate", "ranx", "matplotlib"}
"""Libraries that take a second or more to import and that no search needs: imported where they are used."""
MAX_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_POSITIONAL = 6
TEXT_SUFFIXES = (
    ".py", ".toml", ".lock", ".md", ".yml", ".yaml", ".env", ".cfg", ".txt", ".html", ".js", ".css", ".json",
)  # fmt: skip


def module_name(path: Path) -> str:
    """`model/grnet.py` is "model.grnet", `service/http/__init__.py` is "service.http"."""
    return name(path.with_suffix("")).replace("/", ".").removesuffix(".__init__")


BY_NAME = {module_name(path): path for path in MODULES}


def imports(path: Path) -> Iterator[str]:
    """Dotted name of every import, those inside functions and those for type checkers included.

    `from a.b import c` gives "a.b.c"; what is ours comes without "threadmatch.", as "model.grnet.GRNet".
    """
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: a relative import hides which room it is of"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for dotted in found:
            assert dotted.partition(".")[0] not in ROOMS, f"{name(path)}:{node.lineno} imports {dotted}: threadmatch.?"
            yield dotted.removeprefix("threadmatch.")


def libraries(path: Path) -> set[str]:
    """Top-level packages of every import."""
    return {dotted.partition(".")[0] for dotted in imports(path)}


@cache
def arrows() -> dict[str, set[str]]:
    """For each module of the rooms, the modules of the rooms that it imports."""
    return {module: set(filter(None, map(_home, imports(path)))) - {module} for module, path in BY_NAME.items()}


def _home(dotted: str) -> str:
    """The module that an imported name is of: "model.grnet.GRNet" is of "model.grnet"; "" for other packages."""
    while dotted and dotted not in BY_NAME:
        dotted = dotted.rpartition(".")[0]
    return dotted


def circle(graph: Mapping[str, Iterable[str]]) -> str:
    """One circle of a graph, such as "a -> b -> a"; "" where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""


def wings(depth: int) -> dict[str, set[str]]:
    """Arrows between the parts of the rooms, so many names deep.

    At 2 those are wings and the modules beside them ("service.search", "service.app"), at 3 wings within wings, too.
    """
    graph: dict[str, set[str]] = {}
    for module, targets in arrows().items():
        part = _part(module, depth)
        others = {_part(target, depth) for target in targets} - {part}
        graph.setdefault(part, set()).update(other for other in others if not f"{part}.".startswith(f"{other}."))
    return graph


def _part(module: str, depth: int) -> str:
    return ".".join(module.split(".")[:depth])


def test_a_rule_is_asked_of_every_file_and_says_each_that_breaks_it() -> None:
    def short(path: Path) -> None:
        if len(path.name) > 2:
            raise AssertionError("long")

    with pytest.raises(AssertionError, match=r"^abc: long\nabcd: long$"):
        for_each([Path("abc"), Path("a"), Path("abcd")])(short)()


@for_each(MODULES)
def test_imports_point_downward_and_each_library_stays_in_its_room(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for imported in libraries(path):
        if imported in ROOMS:
            assert ROOMS.index(imported) <= ROOMS.index(room), f"{name(path)} imports {imported}"
        assert HOMES.get(imported, room) == room, f"{name(path)} imports {imported}, which lives in {HOMES[imported]}"
        assert imported != "tests"


@for_each(MODULES)
def test_importing_a_module_imports_no_slow_library(path: Path) -> None:
    for node in tree(path).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not SLOW & {dotted.partition(".")[0] for dotted in named}, f"{name(path)}:{node.lineno}"


@for_each(MODULES)
def test_no_room_comes_in_by_the_front_door(path: Path) -> None:
    """It leads to every room, so an arrow to it is an arrow up; only where it lies on the disk may be asked."""
    used = {dotted_name(node) for node in nodes(path) if isinstance(node, ast.Attribute)}
    asked = {one for one in used if re.fullmatch(r"threadmatch\.\w+", one)}
    assert asked <= {"threadmatch.__file__"}, name(path)
    assert not {"Client", "create_app", "ingest", "load_model", "open"} & set(imports(path)), name(path)


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle(arrows()) == ""


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_wing_imports_itself_by_way_of_others(depth: int) -> None:
    """Rooms, then wings and the modules beside them, then the wings within wings."""
    assert circle(wings(depth)) == ""


def test_a_circle_is_found_and_named() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) in ("b -> c -> b", "c -> b -> c")
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == ""
    assert _home("model.grnet.GRNet") == "model.grnet"
    assert _home("numpy.typing.NDArray") == ""
    assert "indexer.store" in wings(2)["indexer.ingest"], "the walk sees arrows at all"


@for_each(SOURCES)
def test_no_file_runs_data_as_code(path: Path) -> None:
    """No pickle, no eval or exec, no YAML that builds objects, no torch.load of anything but tensors."""
    assert not {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"} & libraries(path)
    for node in nodes(path):
        if not isinstance(node, ast.Call):
            continue
        where = f"{name(path)}:{node.lineno}"
        called = dotted_name(node.func)
        assert called not in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system"), where
        told = ("shell", "weights_only", "allow_pickle")
        flags = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg in told}
        assert flags.get("shell") != "True", where
        if called == "torch.load":
            assert flags.get("weights_only") == "True", where
        if called in ("np.load", "numpy.load"):
            assert flags.get("allow_pickle", "False") == "False", where


@for_each(SOURCES)
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= MAX_LINES, f"{name(path)} has {lines} lines"


@for_each(MODULES)
def test_functions_stay_short_and_say_what_their_arguments_are(path: Path) -> None:
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{name(path)}:{node.lineno} {node.name} has {lines} lines"
            if any(ast.unparse(decorator).startswith("triton.jit") for decorator in node.decorator_list):
                continue  # a kernel's arguments are all by position: Triton before 3.7 knows no others
            positional = len(node.args.posonlyargs) + len(node.args.args)
            assert positional <= MAX_POSITIONAL, (
                f"{name(path)}:{node.lineno} {node.name} takes {positional} by position"
            )


@for_each(MODULES)
def test_every_public_name_is_documented(path: Path) -> None:
    """Modules, classes and functions without a leading underscore; not the methods of a protocol's `...`."""
    module = tree(path)
    assert ast.get_docstring(module), f"{name(path)} has no docstring"
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name(path)}:{node.lineno} {node.name} has no docstring"


@for_each(MODULES)
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


_ROOM = r"(?:model|indexer|service)"
OLD_NAMES = re.compile(
    rf"\bfrom {_ROOM}(?:\.\w+)* import\b|\bimport {_ROOM}\.\w+|-m {_ROOM}\b"
    rf"|--factory {_ROOM}\.\w+|[\"']{_ROOM}(?:\.\w+)+:\w+"
)


def test_nothing_starts_or_imports_a_room_by_its_old_name() -> None:
    """Strings for uvicorn, `python -m`, code for other processes, pages. The change log says what the names were."""
    for path in tracked_files():
        if path.suffix in TEXT_SUFFIXES or path.name in ("Dockerfile", "Makefile", "run"):
            if path.name in ("CHANGELOG.md", Path(__file__).name):
                continue
            found = OLD_NAMES.findall(path.read_text("utf-8", "replace"))
            assert not found, f"{name(path)} names {found}; write threadmatch. before it"


def named_modules(path: Path) -> Iterator[str]:
    """What a page, or a module's text, calls by a path of ours: `service.search.picking`, `model/neck.py`."""
    text = path.read_text("utf-8")
    yield from re.findall(r"`((?:model|indexer|service|tests)/[\w./*-]+)`", text)
    yield from re.findall(r"`(?:threadmatch\.)?((?:model|indexer|service)\.[a-z_]\w+(?:\.\w+)*)`", text)


@for_each([*MODULES, ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
def test_every_module_that_a_text_names_is_there(path: Path) -> None:
    for named in named_modules(path):
        if "/" in named:
            assert list(ROOT.glob(named.rstrip("/"))), f"{name(path)} names {named}"
        else:
            assert "." in _home(named), f"{name(path)} names {named}"


def test_help_answers_without_the_heavy_libraries() -> None:
    """`threadmatch --help`, and the help of each command, import neither torch nor faiss."""
    code = """
import sys
from threadmatch.service.cli import app
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


def test_what_computes_nothing_starts_without_torch() -> None:
    """The demo's own process, those that decode photos, the parent of a service's workers and a start that is refused
    would import it for nothing: seconds, and 200 MB each.
    """
    code = """
import importlib, sys
for module in ("service.demo.run", "model.descriptions", "model.decoding", "indexer.catalogue.decoding.worker",
               "service.process.server", "indexer.opening", "indexer.stamps"):
    importlib.import_module(f"threadmatch.{module}")
    assert "torch" not in sys.modules, module
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


WAITS = {"timeout", "wait", "join", "result", "wait_for", "communicate", "timeout_at", "set_default_timeout"}
LEAST_PATIENCE_S = 60


def patience_of(node: ast.AST) -> Iterator[float]:
    """Numbers of seconds after which an expression gives up waiting; what polls more often than that is no deadline."""
    given: list[ast.expr] = []
    if isinstance(node, ast.Call):
        given += [keyword.value for keyword in node.keywords if keyword.arg == "timeout"]
        name_of_call = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given += node.args if name_of_call in WAITS else []
    elif isinstance(node, ast.BinOp) and isinstance(node.left, ast.Call):
        given += [node.right] if dotted_name(node.left.func) == "time.monotonic" else []
    for one in given:
        if isinstance(one, ast.Constant) and isinstance(one.value, int | float) and one.value >= 0.1:
            yield one.value


@for_each([path for path in SOURCES if path.is_relative_to(ROOT / "tests")])
def test_a_test_that_waits_has_patience(path: Path) -> None:
    """A machine with other things to do takes ten times as long; `tests.support.patience` says how long is enough."""
    for node in nodes(path):
        for seconds in patience_of(node):
            assert seconds >= LEAST_PATIENCE_S, f"{name(path)}:{getattr(node, 'lineno', 0)} gives up after {seconds} s"


def test_a_deadline_that_is_short_is_seen() -> None:
    def found(code: str) -> list[float]:
        return [seconds for node in ast.walk(ast.parse(code)) for seconds in patience_of(node)]

    assert found("thread.join(10)") == found("asyncio.timeout(10)") == found("run(timeout=10)") == [10]
    assert found("late = time.monotonic() + 10") == [10]
    assert found("gate.wait(0.01); join(PATIENCE_S); max(1, 2)") == []


def test_what_the_type_checker_passes_over_is_named_with_its_reason() -> None:
    """A bare `type: ignore` hides everything on its line."""
    for path in SOURCES:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            if "type: ignore" in line and path != Path(__file__):
                assert re.search(r"type: ignore\[[\w, -]+\]", line), f"{name(path)}:{number}"
