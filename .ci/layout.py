"""Prints the size and shape of the tree; fails where a bound is exceeded."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

MOST_LINES, MOST_OUTSIDE, MOST_IN_TESTS = 400, 22_000, 18_000
LAYERS = (  # Each may import from those before it.
    ("_version", "lazy", "constants", "checks", "compat", "files", "xla"),
    ("labels", "scores"),
    ("energy",),
    ("losses", "metrics", "optimizers", "models", "datasets", "registered"),
    ("export",),
    ("inference",),
    ("training",),
    ("reporting",),
    ("commands", "server", "__main__"),
)
LAYER = {name: level for level, names in enumerate(LAYERS) for name in names}


def imported(path: Path) -> set[tuple[str, str]]:
    """The modules of the package that a file imports anywhere, each with a name."""
    return {
        (node.module, alias.name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").split(".")[0] == "tf_levelset"
        for alias in node.names
    }


files = subprocess.run(
    ["git", "ls-files", "*.py"], capture_output=True, text=True, check=True
).stdout.split()
paths = [Path(name) for name in files]
lines = {path: len(path.read_text().splitlines()) for path in paths}
tests = sum(count for path, count in lines.items() if path.parts[0] == "tests")
outside = sum(lines.values()) - tests
faults = [f"{path}: {n} lines" for path, n in lines.items() if n > MOST_LINES]
if outside > MOST_OUTSIDE or tests > MOST_IN_TESTS:
    faults.append(f"more than {MOST_OUTSIDE} lines outside tests, {MOST_IN_TESTS} in")

modules = {}
for path in paths:
    inside = path.parts[0] in ("models", "datasets")
    if inside or path.parts[0] == "tf_levelset":
        parts = ("tf_levelset",) * inside + path.with_suffix("").parts
        modules[".".join(parts).removesuffix(".__init__")] = path
graph = {}
for module, path in modules.items():
    pairs = imported(path)
    joined = {f"{home}.{name}" for home, name in pairs}
    graph[module] = (joined & set(modules)) | {
        home for home, name in pairs if f"{home}.{name}" not in modules
    }
    if module.count("."):
        level = LAYER[module.split(".")[1]]
        faults += [
            f"{path}: imports {target}, which is above it"
            for target in graph[module]
            if target.count(".") and LAYER[target.split(".")[1]] > level
        ]
for path in paths:
    faults += [
        f"{path}: imports the private name {home}.{name}"
        for home, name in imported(path)
        if name.startswith("_") and not name.startswith("__")
    ]
try:
    graphlib.TopologicalSorter(graph).prepare()
except graphlib.CycleError as error:
    faults.append(f"imports in a circle: {' → '.join(error.args[1])}")

longest = max(lines, key=lambda path: lines[path])
print(
    f"{outside} lines of Python outside tests, {tests} in tests; the longest file is "
    f"{longest} with {lines[longest]}; {len(faults)} faults"
)
print(*faults, sep="\n")
sys.exit(bool(faults))
