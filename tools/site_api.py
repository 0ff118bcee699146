"""The public names of the package, read from its source without importing it, and the pages made from them."""

from __future__ import annotations

import ast
import re
import runpy
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from notebooks import ROOT, page_key

PACKAGE = "adaptive_dropout"


@dataclass(frozen=True)
class Definition:
    """A function, class or method of the package."""

    module: str  # nn.layers
    name: str  # Gate or Gate.forward
    target: str  # gates.html#gate.forward
    summary: str  # first paragraph of the docstring
    top: bool  # may be imported from the package itself

    @property
    def page(self) -> str:
        return self.target.partition("#")[0]

    @property
    def public(self) -> bool:
        return not any(part.startswith("_") for part in self.name.split("."))


def html_name(source: str) -> str:
    "File of a page: numbers are left out, as nbdev does it."
    return re.sub(r"^\d+[a-zA-Z0-9]*_", "", Path(source).name.lower()).rpartition(".")[0] + ".html"


def page_number(source: str) -> str:
    "12ca of 12ca_vectors.ipynb; empty for a page without number."
    match = re.match(r"(\d+[a-z]*)_", source)
    return match[1] if match else ""


def numbered_title(source: str, title: str) -> str:
    "A title as texts refer to the page: 12ca Penalties of whole vectors."
    return f"{page_number(source)} {title}".strip()


def definitions(root: Path = ROOT) -> list[Definition]:
    "Every definition that a page exports, module by module."
    top, folder = _names_of_the_package(root), root / PACKAGE
    files = [file for file in sorted(folder.rglob("*.py")) if not file.name.startswith("_")]
    modules = {file: ".".join(file.relative_to(folder).with_suffix("").parts) for file in files}
    return [found for file, module in modules.items() for found in _definitions_of(file, module, top)]


def _definitions_of(file: Path, module: str, top: set[tuple[str, str]]) -> list[Definition]:
    "Functions, classes and methods of a module; nbdev writes above each cell which page it comes from."
    text, found = file.read_text(encoding="utf-8"), []
    pages = {n: m[1] for n, line in enumerate(text.splitlines()) if (m := re.match(r"# %% (\S+\.ipynb)", line))}
    for node in ast.parse(text).body:
        for name, definition in _with_methods(node):
            page = html_name(next(pages[n] for n in range(node.lineno, -1, -1) if n in pages))
            summary = " ".join((ast.get_docstring(definition) or "").partition("\n\n")[0].split())
            found.append(Definition(module, name, f"{page}#{name.lower()}", summary, (module, name) in top))
    return found


def _names_of_the_package(root: Path) -> set[tuple[str, str]]:
    "(module, name) for each row of the table in __init__.py; re-exported names stand for their own module too."
    names = runpy.run_path(str(root / PACKAGE / "__init__.py"))["_names"]
    rows = {(module, name) for module, listed in names.items() for name in listed.split()}
    for module in names:
        tree = ast.parse((root / PACKAGE / Path(*module.split(".")).with_suffix(".py")).read_text(encoding="utf-8"))
        for node in (n for n in tree.body if isinstance(n, ast.ImportFrom)):
            source = (node.module or "").removeprefix(f"{PACKAGE}.")
            rows |= {(source, alias.name) for alias in node.names if (module, alias.name) in rows}
    return rows


def _with_methods(node: ast.stmt, inside: str = "") -> list[tuple[str, ast.stmt]]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    inner = [pair for child in getattr(node, "body", []) for pair in _with_methods(child, f"{inside}{node.name}.")]
    return [(inside + node.name, node), *(inner if isinstance(node, ast.ClassDef) else [])]


def places(source: str) -> dict[int, list[str]]:
    "Line (from 1) of a cell -> ids of the definitions that begin there."
    found = defaultdict(list)
    for node in ast.parse(source).body:
        for name, definition in _with_methods(node):
            first = min([definition.lineno, *(d.lineno for d in definition.decorator_list)])
            found[first].append(name.lower())
    return found


class Lookup:
    """Finds the place of a name as it is written in prose: `MCP`, `MCP(a, lam)`, `noise.Bernoulli`."""

    def __init__(self, known: list[Definition]):
        self.table = defaultdict(list)
        for item in known:
            if item.public:
                for key in (item.name, f"{item.module}.{item.name}", f"{PACKAGE}.{item.module}.{item.name}"):
                    self.table[key].append(item)

    def target(self, text: str, page: str) -> str | None:
        "Link for the text of a code span on that page; None for what is no public name, or not a single one."
        match = re.fullmatch(r"([A-Za-z_][\w.]*)(\(.*\))?", text)
        found = self.table.get(match[1], []) if match else []
        if match and re.fullmatch("[a-z]+", match[1]):  # an ordinary word, such as `sample`, may mean something else
            found = [d for d in found if d.top or d.page == page]
        for chosen in (found, [d for d in found if d.page == page], [d for d in found if d.top]):
            if len(chosen) == 1:
                return chosen[0].target.removeprefix(page)
        return None


# ---- pages made from them ----


def api_page(known: list[Definition], sources: dict[str, str], titles: dict[str, str]) -> str:
    "Markdown of the page with every public name; `sources` and `titles` map a page's file to its notebook and title."
    parts = [
        "Every public name with its summary and a link to the page that derives, defines and tests it. "
        f"**Bold** names can be imported from `{PACKAGE}` itself, the others from the module that the heading names."
    ]
    modules = defaultdict(list)
    for item in known:
        if item.public and "." not in item.name:
            modules[item.module].append(item)
    for module, items in sorted(modules.items(), key=lambda pair: page_key(sources[pair[1][0].page])):
        page = items[0].page
        parts += [f"## {module}", f"`{PACKAGE}.{module}` is the page [{_plain(titles[page])}]({sources[page]})."]
        rows = [f"| {_name(item, sources)} | {_plain(item.summary)} |" for item in sorted(items, key=_order)]
        parts.append("\n".join(["| name | summary |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _order(item: Definition) -> str:
    return item.name.lower()


def _name(item: Definition, sources: dict[str, str]) -> str:
    file, _, anchor = item.target.partition("#")
    link = f"[`{item.name}`]({sources[file]}#{anchor})"
    return f"**{link}**" if item.top else link


def _plain(text: str) -> str:
    "Text of a docstring as Markdown that shows it unchanged; what stands in backticks stays code."
    pieces = re.split(r"(`[^`]+`)", text)
    kept = [p.replace("|", r"\|") if p.startswith("`") else re.sub(r"([\\`*_$<>\[\]|~^#])", r"\\\1", p) for p in pieces]
    return "".join(kept)


def changes_page(root: Path = ROOT) -> str:
    "CHANGELOG.md without its title."
    return re.sub(r"\A# .*\n+", "", (root / "CHANGELOG.md").read_text(encoding="utf-8"))
