"""``python -m benchmarks NAME [options]``: one command a figure; without a name, the list of them.

A benchmark is a module of this folder that can be run by itself; its name may be written with hyphens.
"""

import ast
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path


def benchmarks() -> Iterator[tuple[str, str]]:
    """Every benchmark's name, and the first line of what it says of itself. Imports none of them."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name for node in module.body if isinstance(node, ast.FunctionDef)}
        if "main" in functions and path != Path(__file__):
            said = ast.get_docstring(module) or ""
            yield path.stem.replace("_", "-"), said.partition("\n")[0]


def main() -> None:
    """Run the benchmark that is named; the rest of the line is its own."""
    names = dict(benchmarks())
    name = sys.argv[1].replace("_", "-") if len(sys.argv) > 1 else ""
    if name in names:
        sys.argv[:2] = [f"benchmarks {name}"]
        runpy.run_module(f"benchmarks.{name.replace('-', '_')}", run_name="__main__")
        return
    print("usage: python -m benchmarks NAME [--help | options]\n")
    for known, said in names.items():
        print(f"  {known:16}{said}")
    sys.exit(0 if name in ("", "-h", "--help") else 2)


if __name__ == "__main__":
    main()
