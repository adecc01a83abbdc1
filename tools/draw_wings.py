"""Draws the wings of the house and the arrows among them into ARCHITECTURE.md, from imports and docstrings as they are.

python -m tools.draw_wings [--check]
"""

import argparse
import ast
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from .stage import stage

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- drawn by tools/draw_wings.py -->", "<!-- end of the drawing -->"
WINGED = ("features", "experiments")  # rooms whose wings are drawn one by one
HIGHEST_FIRST = ("cli", "commands", "jobs", "experiments", "features", "pipeline")

Arrows = dict[str, set[str]]


def read_imports() -> Arrows:
    """Which module imports which, type checking and imports inside functions included."""
    with tempfile.TemporaryDirectory() as scratch:
        stage(Path(scratch))
        # grimp finds the package by the path; the checkout's own `headstart` holds no room.
        sys.path.insert(0, scratch)
        import grimp

        graph = grimp.build_graph("headstart", cache_dir=None)
        sys.path.remove(scratch)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in sorted(graph.modules)}


def among_wings(imports: Arrows) -> Arrows:
    """Which wing imports which."""
    arrows: Arrows = defaultdict(set)
    for module, others in imports.items():
        wing = wing_of(module)
        for other in map(wing_of, others):
            if wing and other and wing != other:
                arrows[wing].add(other)
    return arrows


def wing_of(module: str) -> str | None:
    """`features.store` of `headstart.features.store.load`, `pipeline` of `headstart.pipeline.job`; None for a room itself."""
    parts = module.split(".")[1:]
    if parts[:2] == ["commands", "output"]:
        return "commands.output"
    if parts and parts[0] in WINGED:
        return ".".join(parts[:2]) if len(parts) > 1 else None
    return parts[0] if parts else None


def without_detours(arrows: Arrows) -> Arrows:
    """The same arrows without those that follow from others; what is reached stays the same. There must be no circle."""
    reached: dict[str, set[str]] = {}

    def reach(wing: str) -> set[str]:
        if wing not in reached:
            reached[wing] = set().union(*({other} | reach(other) for other in arrows.get(wing, ())))
        return reached[wing]

    return {
        wing: {other for other in others if not any(other in reach(between) for between in others - {other})}
        for wing, others in arrows.items()
    }


def drawing(arrows: Arrows) -> str:
    """A Mermaid flowchart."""
    wings = sorted({*arrows, *(other for others in arrows.values() for other in others)})
    lines = ["```mermaid", "flowchart TD"]
    for room in HIGHEST_FIRST:
        inside = [wing for wing in wings if wing.split(".")[0] == room]
        if room not in WINGED:
            lines += [f'  {_key(wing)}["{wing.replace(".", "/")}"]' for wing in inside]
            continue
        lines += [f"  subgraph {room}", *(f'    {_key(wing)}["{wing.split(".")[1]}"]' for wing in inside), "  end"]
    lines += [f"  {_key(wing)} --> {_key(other)}" for wing in wings for other in sorted(arrows.get(wing, ()))]
    return "\n".join([*lines, "```"])


def wings_table() -> str:
    """What each wing owns: the first line of its docstring."""
    lines = ["| wing | what it owns |", "|---|---|"]
    for room in WINGED:
        for path in sorted([*(ROOT / room).glob("*/__init__.py"), *(ROOT / room).glob("[!_]*.py")]):
            name = path.parent if path.name == "__init__.py" else path
            lines.append(f"| `{name.relative_to(ROOT).as_posix()}` | {_first_line(path)} |")
    return "\n".join(lines)


def engine_table(imports: Arrows) -> str:
    """The modules of the engine, each after all those that it imports."""
    floors: dict[str, int] = {}

    def floor(module: str) -> int:
        if module not in floors:
            below = [other for other in imports[module] if other.startswith("headstart.pipeline.")]
            floors[module] = 1 + max(map(floor, below), default=0)
        return floors[module]

    rows = []
    for module in sorted(
        (module for module in imports if module.startswith("headstart.pipeline.")), key=lambda module: (floor(module), module)
    ):
        name = module.removeprefix("headstart.pipeline.").replace(".", "/")
        if (path := ROOT / "pipeline" / f"{name}.py").exists():  # else a wing's own docstring
            rows.append(f"| {floor(module)} | `{name}` | {_first_line(path)} |")
    return "\n".join(["| floor | module of `pipeline` | what it owns |", "|---|---|---|", *rows])


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0].replace("|", "\\|")


def drawn(document: str) -> str:
    """`document` with drawing and tables as they should be now."""
    before, rest = document.split(BEGIN)
    after = rest.split(END)[1]
    imports = read_imports()
    made = (drawing(without_detours(among_wings(imports))), wings_table(), engine_table(imports))
    return "\n\n".join([f"{before}{BEGIN}", *made, f"{END}{after}"])


def _key(wing: str) -> str:
    return wing.replace(".", "_") if "." in wing else f"{wing}_"  # a bare `end` or a subgraph's name would be no key


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the drawing is stale")
    is_check = parser.parse_args().check
    old = DOCUMENT.read_text(encoding="utf-8")
    new = drawn(old)
    if is_check and new != old:
        sys.exit(f"the drawing in {DOCUMENT.name} is stale. Draw it again: python -m tools.draw_wings")
    if not is_check:
        DOCUMENT.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
