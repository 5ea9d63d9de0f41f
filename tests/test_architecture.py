"""The walls of the house: imports run downwards only, rooms stay small, and nothing is a drawer."""

import ast
import re
import statistics
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import crosshead

SOURCE = Path(crosshead.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# From the bottom up; rooms on one floor do not import each other.
FLOORS = [
    {"attention"},
    {"measure"},
    {"rivals", "vision"},
    {"tasks"},
    {"runs"},
    {"recipes"},
    {"bench"},
    {"study", "explain", "export"},
    {"cli"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Shared by tests and by users who add a kernel or a model; nothing in the package may lean on it.
TESTING = "testing"
# Anyone may read the version, the package's own face and which extra is missing; these name no room.
FACE = {"_version", "_extras", "__init__", "__main__", ""}
IMPLEMENTATIONS = {"reference", "streamed", "fused"}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, inside functions and by `import_module` too, with the line."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value, node.lineno


def room_of(module: str) -> str:
    """`crosshead.attention.impl.reference` lives in `attention`, `crosshead.measure.cost` in `measure`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def own_imports(path: Path) -> Iterator[tuple[str, str]]:
    for module, line in imports_of(path):
        if module.split(".")[0] == "crosshead":
            yield module, f"{path.relative_to(SOURCE)}:{line} imports {module}"


def wrong_ways(path: Path) -> Iterator[str]:
    """Each import of a file that does not run downwards, and why."""
    room = room_of(module_name(path))
    if room in FACE:  # loads its names lazily, from anywhere
        return
    for module, where in own_imports(path):
        target = room_of(module)
        # `from crosshead import X` reads the face of the package, whose names live in attention.
        target = target if target in {*FLOOR_OF, *FACE, TESTING} else "attention"
        if target == room or target in FACE:
            continue
        if target == TESTING:
            yield f"{where}: nothing in the package may import the test helpers"
        elif room == TESTING:
            if FLOOR_OF[target] >= FLOOR_OF["recipes"]:
                yield f"{where}: testing stays below recipes"
        elif room not in FLOOR_OF:
            yield f"{where}: {room} stands on no floor; give it one here and in the design"
        elif FLOOR_OF[target] >= FLOOR_OF[room]:
            yield f"{where}: {target} is not below {room}"


def test_imports_run_downwards_only():
    assert not [complaint for path in FILES for complaint in wrong_ways(path)]


def test_every_room_stands_on_a_floor():
    found = {room_of(module_name(path)) for path in FILES} - FACE - {TESTING}
    assert found <= FLOOR_OF.keys()
    assert {"attention", "measure", "vision", "tasks", "runs", "recipes", "cli"} <= found


def outside_imports(path: Path) -> set[str]:
    names = {module.split(".")[0] for module, _ in imports_of(path)}
    return names - sys.stdlib_module_names - {"crosshead"}


def test_every_library_that_is_imported_is_declared():
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    known = {re.split(r"[^\w-]", each)[0] for each in declared}
    distributions = packages_distributions()
    for path in FILES:
        for name in outside_imports(path) - {"triton"}:  # which comes with torch
            found = {each.lower().replace("_", "-") for each in distributions[name]}
            assert found & known, f"{path.relative_to(SOURCE)} imports {name}"


def is_kernel(path: Path) -> bool:
    return "fused" in path.parts


def in_room(room: str) -> list[Path]:
    return [path for path in FILES if room_of(module_name(path)) == room]


def test_attention_imports_torch_only():
    for path in in_room("attention"):
        allowed = {"torch", "triton"} if is_kernel(path) else {"torch"}
        assert outside_imports(path) <= allowed, path


def test_the_cost_model_is_arithmetic_and_imports_nothing():
    path = SOURCE / "measure" / "cost.py"
    assert not outside_imports(path)
    assert not list(own_imports(path))


def test_the_test_helpers_need_no_hypothesis():
    assert not [path for path in in_room(TESTING) if "hypothesis" in outside_imports(path)]


def test_implementations_never_import_each_other():
    for path in in_room("attention"):
        parts = module_name(path).split(".")
        implementation = parts[3] if len(parts) > 3 and parts[3] in IMPLEMENTATIONS else None
        if implementation is None:
            continue
        for module, where in own_imports(path):
            others = set(module.split(".")) & IMPLEMENTATIONS - {implementation}
            assert not others, f"{where}: what implementations share belongs in a file of its own"


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_no_file_but_a_kernel_is_longer_than_400_lines():
    assert not [path for path in FILES if lines(path) > 400 and not is_kernel(path)]


def test_the_median_file_has_at_most_125_lines():
    assert statistics.median(lines(path) for path in FILES) <= 125


def named_tasks(path: Path, tasks: set[str]) -> Iterator[str]:
    """Where a file names a task: imports its folder, or holds its name as a text."""
    for module, where in own_imports(path):
        if module.split(".")[1:2] == ["tasks"] and tasks & set(module.split(".")[2:3]):
            yield where
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and node.value in tasks:
            yield f"{path.relative_to(SOURCE)}:{node.lineno} names {node.value}"


def test_a_task_lives_in_its_folder_and_nothing_above_names_one():
    tasks = {path.parent.name for path in SOURCE.glob("tasks/*/task.py")}
    assert tasks >= {"classify", "detect", "segment", "change"}
    # The table of recipes names them; a study trains classifiers.
    for room in ("runs", "bench", "export", "cli"):
        assert not [where for path in in_room(room) for where in named_tasks(path, tasks)]


def test_no_file_is_a_drawer():
    drawers = {"utils", "util", "common", "helpers", "misc"}
    assert not [path for path in FILES if path.stem in drawers or drawers & set(path.parent.parts)]


def test_tests_are_no_package():
    assert not list(Path(__file__).parent.rglob("__init__.py"))


def test_this_test_sees_each_kind_of_import(tmp_path, monkeypatch):
    package = tmp_path / "crosshead" / "vision"
    package.mkdir(parents=True)
    path = package / "blocks.py"
    path.write_text(
        "import crosshead.tasks.classify.module\n"
        "from crosshead.runs import folder\n"
        "from ..tasks import images\n"
        "from . import swap\n"
        "def later():\n"
        "    import_module('crosshead.cli.main')\n"
    )
    monkeypatch.setitem(globals(), "SOURCE", tmp_path / "crosshead")
    assert [module for module, _ in imports_of(path)] == [
        "crosshead.tasks.classify.module",
        "crosshead.runs.folder",
        "crosshead.tasks.images",
        "crosshead.vision.swap",
        "crosshead.cli.main",
    ]
    complaints = [complaint.partition(": ")[2] for complaint in wrong_ways(path)]
    assert complaints == [f"{room} is not below vision" for room in ("tasks", "runs", "tasks", "cli")]
