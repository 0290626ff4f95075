"""Prints the size and shape of the tree; fails where a bound is exceeded."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

LAYERS = (  # Each may import from those before it.
    "_version lazy constants checks compat files xla labels scores",
    "energy",
    "losses metrics optimizers models datasets registered",
    "export",
    "inference",
    "training",
    "reporting",
    "commands server __main__",
)
LAYER = {name: i for i, names in enumerate(LAYERS) for name in names.split()}

listed = subprocess.run(["git", "ls-files", "*.py"], capture_output=True, check=True)
texts = {Path(name): Path(name).read_text() for name in listed.stdout.decode().split()}
lines = {path: text.count("\n") for path, text in texts.items()}
tests = sum(n for path, n in lines.items() if path.parts[0] == "tests")
outside = sum(lines.values()) - tests
faults = [f"{path}: {n} lines" for path, n in lines.items() if n > 400]
if outside > 24_300 or tests > 20_300:
    faults.append("more than 24300 lines outside tests, or 20300 in tests")

imports = {  # module or name that a file imports from the package, wherever
    path: [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").split(".")[0] == "tf_levelset"
        for alias in node.names
    ]
    for path, text in texts.items()
}
modules = {}
for path in texts:
    if path.parts[0] in ("tf_levelset", "models", "datasets"):
        name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        modules["tf_levelset." + name.removeprefix("tf_levelset.")] = path
modules["tf_levelset"] = modules.pop("tf_levelset.tf_levelset")
graph = {}
for module, path in modules.items():
    pairs = imports[path]
    graph[module] = {f"{m}.{n}" if f"{m}.{n}" in modules else m for m, n in pairs}
    for target in graph[module] if module != "tf_levelset" else ():
        if target != "tf_levelset":
            here, there = (LAYER[name.split(".")[1]] for name in (module, target))
            faults += [f"{path}: imports {target}, above it"] * (there > here)
for path, pairs in imports.items():
    private = [n for _, n in pairs if n.startswith("_") and not n.startswith("__")]
    faults += [f"{path}: imports the private name {name}" for name in private]
try:
    graphlib.TopologicalSorter(graph).prepare()
except graphlib.CycleError as error:
    faults.append(f"imports in a circle: {' → '.join(error.args[1])}")

longest = max(lines, key=lambda path: lines[path])
print(f"{outside} lines of Python outside tests, {tests} in tests;", end=" ")
print(f"the longest file is {longest} with {lines[longest]}; {len(faults)} faults")
print(*faults, sep="\n")
sys.exit(bool(faults))
