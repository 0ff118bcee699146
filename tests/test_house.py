"""House rules over the real tree.

Each rule is a function that returns its complaints. It is tested twice: the tree gives none, and a small bad example
gives one, so that a rule that has stopped looking is noticed.
"""

import ast
import importlib
import io
import json
import re
import subprocess
import tokenize
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import notebooks
import pytest
import site_builder
import yaml
from notebooks import ROOT, directives, page_key

PACKAGE = "adaptive_dropout"
LARGEST_FILE = 400_000  # bytes, of what people write
GENERATED = ("adaptive_dropout/_modidx.py",)  # nbdev's index of all names grows with the package
MOST_CELLS = 45
PROSE = (2.5, 8.0)  # words of prose per line of code on a derivation page


@dataclass(frozen=True)
class Page:
    """A notebook as the rules look at it."""

    name: str  # file name without .ipynb
    nb: dict  # the notebook, sources as strings

    @cached_property
    def code(self) -> list["Cell"]:
        return [Cell(c["source"], c["outputs"]) for c in self.nb["cells"] if c["cell_type"] == "code"]

    @cached_property
    def prose(self) -> str:
        return "\n".join(c["source"] for c in self.nb["cells"] if c["cell_type"] == "markdown")

    @property
    def module(self) -> str | None:
        "Name of the module that the page exports, e.g. noise or nn.layers."
        found = [re.search(r"^#\s*\|\s*default_exp\s+(\S+)", cell.source, re.MULTILINE) for cell in self.code]
        return next((match[1] for match in found if match), None)

    @property
    def short_name(self) -> str:
        return re.sub(r"^\d+[a-z]*_", "", self.name)

    @property
    def key(self) -> tuple:
        return page_key(self.name)

    @property
    def is_derivation(self) -> bool:
        return self.module is not None and self.key[0] < 50


@dataclass(frozen=True)
class Cell:
    """A code cell."""

    source: str
    outputs: list

    @cached_property
    def tree(self) -> ast.Module:
        "The cell's statements; lines for IPython alone (%magic, !command) are left out."
        return ast.parse(
            "\n".join("" if line.lstrip()[:1] in ("%", "!") else line for line in self.source.splitlines())
        )

    @property
    def exported(self) -> bool:
        return bool(directives(self.source) & {"export", "exports", "exporti"})

    @property
    def lines(self) -> int:
        "Lines of code: neither blank nor a directive."
        return sum(bool(line.strip()) and not re.match(r"\s*#\s*\|", line) for line in self.source.splitlines())


def page(header: str, *cells: str, name: str = "02_example", outputs: tuple = ()) -> Page:
    "A page made from sources; one that starts with `md:` is prose, and every code cell has the given outputs."
    made = [{"cell_type": "markdown", "source": header, "metadata": {}}]
    for source in cells:
        if source.startswith("md:"):
            made.append({"cell_type": "markdown", "source": source[3:], "metadata": {}})
        else:
            empty = {"cell_type": "code", "execution_count": None, "metadata": {}}
            made.append({**empty, "source": source, "outputs": list(outputs)})
    return Page(name, {"cells": made, "metadata": {}})


HEADER = "# Title\n\n> One plain sentence."


def real_pages() -> list[Page]:
    return [Page(path.stem, notebooks.read(path)) for path in notebooks.all_pages()]


# ---- rules over one page: page -> complaints ----


def header(page: Page) -> list[str]:
    """Title, then a description of one line, which becomes the module's docstring and takes no backslash.

    Nothing else: nbdev takes the cell for front matter, and the rest of it would be missing from the site.
    """
    first = page.nb["cells"][0]
    if first["cell_type"] != "markdown" or not re.match(r"# \S.*\n\n> \S.*(\n|$)", first["source"]):
        return ["the first cell must be `# Title`, a blank line, `> one sentence`"]
    description = first["source"].splitlines()[2]
    following = first["source"].splitlines()[3:4]
    complaints = ["the description holds a backslash"] if "\\" in description else []
    complaints += ["the description goes on in a second line"] if following and following[0].startswith(">") else []
    rest = [line for line in first["source"].splitlines()[3:] if line.strip() and not re.match(r"- \w+: ", line)]
    complaints += ["the first cell holds more than title and description"] if rest else []
    complaints += ["the description is not a sentence"] if not description.rstrip().endswith((".", "!", "?")) else []
    return complaints


def module_is_named_as_the_page(page: Page) -> list[str]:
    exports = any(cell.exported for cell in page.code)
    if page.module is None:
        return ["exports cells but has no default_exp"] if exports else []
    return [] if page.module.removeprefix("nn.") == page.short_name else [f"exports {page.module}"]


def imports_stand_alone(page: Page) -> list[str]:
    "A cell is imports only or has none, for the site's builder runs import cells alone. Inside functions is fine."
    complaints = []
    for number, cell in enumerate(page.code):
        kinds = {isinstance(statement, ast.Import | ast.ImportFrom) for statement in cell.tree.body}
        if kinds == {True, False}:
            complaints.append(f"code cell {number} mixes imports with other statements")
    return complaints


def no_star_imports(page: Page) -> list[str]:
    stars = [n for cell in page.code for n in _imports(cell.tree) if any(alias.name == "*" for alias in n.names)]
    return [f"from {node.module} import *" for node in stars]


def _imports(tree: ast.AST) -> list:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def definitions_are_tested(page: Page) -> list[str]:
    """Every public exported function is named in a later cell that is not exported and asserts something.

    For a class it is enough that what is named there makes or extends it.
    """
    checkers = {f.name for c in page.code if not c.exported for f in _functions(c.tree) if _asserts(f, set())}
    complaints = []
    for number, cell in enumerate(page.code):
        later = [c for c in page.code[number + 1 :] if not c.exported and _asserts(c.tree, checkers)]
        named = set().union(*(_names(c.tree) for c in later))
        for node in _public_definitions(cell.tree) if cell.exported else []:
            wanted = _with_users(node.name, page) if isinstance(node, ast.ClassDef) else {node.name}
            if not wanted & named:
                complaints.append(f"{node.name} is not tested after its definition")
    return complaints


def _with_users(name: str, page: Page) -> set[str]:
    "A class and the functions and classes of the page that use it by name."
    kinds = ast.FunctionDef | ast.ClassDef
    nodes = [node for cell in page.code for node in cell.tree.body if isinstance(node, kinds)]
    return {name} | {node.name for node in nodes if name in _names(node)}


def _functions(tree: ast.AST) -> list:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _asserts(tree: ast.AST, checkers: set[str]) -> bool:
    nodes = list(ast.walk(tree))
    called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    return any(isinstance(n, ast.Assert) for n in nodes) or bool(called & checkers)


def _public_definitions(tree: ast.Module) -> list:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


def _names(tree: ast.AST) -> set[str]:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def definitions_are_documented(page: Page) -> list[str]:
    "Public exported definitions have a docstring; parameters and dataclass fields a line and a comment of their own."
    complaints = []
    for cell in page.code:
        if cell.exported:
            comments = _comment_lines(cell.source)
            for node in cell.tree.body:
                complaints += _undocumented(node, comments)
    return complaints


def _comment_lines(source: str) -> set[int]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0] for token in tokens if token.type == tokenize.COMMENT}


def _undocumented(node: ast.AST, comments: set[int], inside: str = "") -> list[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    if not isinstance(node, kinds) or node.name.startswith("_"):
        return []
    complaints = [] if ast.get_docstring(node) else [f"{inside}{node.name} has no docstring"]
    if isinstance(node, ast.ClassDef):
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign)] if _is_dataclass(node) else []
        complaints += [f"{node.name}.{f.target.id} has no comment" for f in fields if f.lineno not in comments]
        return complaints + [c for child in node.body for c in _undocumented(child, comments, f"{node.name}.")]
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments = [a for a in arguments if a.arg not in ("self", "cls")]
    lines = [a.lineno for a in arguments]
    bare = [a.arg for a in arguments if a.lineno not in comments or lines.count(a.lineno) > 1]
    return complaints + ([f"{inside}{node.name}: no comment for {', '.join(bare)}"] if bare else [])


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def prose_and_code_are_balanced(page: Page) -> list[str]:
    lines = sum(cell.lines for cell in page.code)
    if not page.is_derivation or not lines:
        return []
    words = len(page.prose.split()) / lines
    return [] if PROSE[0] <= words <= PROSE[1] else [f"{words:.1f} words of prose per line of code, not {PROSE}"]


def not_too_long(page: Page) -> list[str]:
    cells = len(page.nb["cells"])
    return [f"{cells} cells, more than {MOST_CELLS}"] if cells > MOST_CELLS else []


def shows_something(page: Page) -> list[str]:
    lines, outputs = sum(cell.lines for cell in page.code), sum(len(cell.outputs) for cell in page.code)
    return [f"{lines} lines of code and no stored output"] if lines > 30 and not outputs else []


def outputs_are_clean(page: Page) -> list[str]:
    "No errors, no warnings, and the one stored form that `make outputs` gives."
    widgets = page.nb["metadata"].get("widgets", {}).get(notebooks.WIDGET_STATE, {}).get("state", {}).values()
    outputs = [o for cell in page.code for o in cell.outputs]
    outputs += [o for widget in widgets for o in widget["state"].get("outputs", [])]
    kinds = {o.get("name", o["output_type"]) for o in outputs}
    complaints = [f"stores {kind} output" for kind in sorted(kinds & {"stderr", "error"})]
    if notebooks.normalise(deepcopy(page.nb)) != page.nb:
        complaints.append("is not in stored form: run `make outputs`")
    return complaints


PAGE_RULES = {
    header: page("Title only", "x = 1"),
    module_is_named_as_the_page: page(HEADER, "#| default_exp other"),
    imports_stand_alone: page(HEADER, "import math\nx = math.pi"),
    no_star_imports: page(HEADER, "from math import *"),
    definitions_are_tested: page(HEADER, "#| export\ndef area(r):\n    return r", "area(1)"),
    definitions_are_documented: page(HEADER, "#| export\ndef area(r):\n    'Area.'\n    return r"),
    prose_and_code_are_balanced: page(HEADER, "#| default_exp example", "x = 1\n" * 40),
    not_too_long: page(HEADER, *["md: text"] * 45),
    shows_something: page(HEADER, "x = 1\n" * 40),
    outputs_are_clean: page(HEADER, "1 / 0", outputs=[{"output_type": "error", "ename": "ZeroDivisionError"}]),
}


@pytest.mark.parametrize("rule", PAGE_RULES, ids=lambda rule: rule.__name__)
def test_every_page_keeps(rule):
    complaints = [f"{page.name}: {complaint}" for page in real_pages() for complaint in rule(page)]
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("rule", PAGE_RULES, ids=lambda rule: rule.__name__)
def test_a_bad_page_is_noticed_by(rule):
    assert rule(PAGE_RULES[rule])


def test_rules_find_the_finer_points():
    assert not outputs_are_clean(page(HEADER, "x"))
    assert outputs_are_clean(
        page(HEADER, "x", outputs=[{"output_type": "stream", "name": "stderr", "text": "careful"}])
    )
    addressed = {"output_type": "stream", "name": "stdout", "text": "<f at 0x7f00>"}
    assert "stored form" in outputs_are_clean(page(HEADER, "x", outputs=[addressed]))[0]
    assert "backslash" in header(page("# T\n\n> A \\alpha."))[0]
    assert "sentence" in header(page("# T\n\n> no stop"))[0]
    assert "second line" in header(page("# T\n\n> One.\n> Two."))[0]
    assert "more than" in header(page(HEADER + "\n\nMore."))[0]
    assert not header(page(HEADER + "\n\n- skip_exec: true"))
    assert not imports_stand_alone(page(HEADER, "def f():\n    import math\n    return math.pi"))
    assert module_is_named_as_the_page(page(HEADER, "#| export\nx = 1"))
    assert not module_is_named_as_the_page(page(HEADER, "#| default_exp nn.layers", name="40_layers"))
    exported = "#| export\ndef area(r):\n    return r"
    assert definitions_are_tested(page(HEADER, "assert area(1) == 1", exported))  # before the definition does not count
    assert not definitions_are_tested(page(HEADER, exported, "assert area(1) == 1"))
    assert not definitions_are_tested(page(HEADER, exported, "def check(f):\n    assert f(1) == 1", "check(area)"))
    result = "#| export\nclass Area:\n    r = 1\n\ndef area():\n    return Area()"
    assert definitions_are_tested(page(HEADER, result, "Area()"))
    assert not definitions_are_tested(page(HEADER, result, "assert area().r == 1"))
    documented = "#| export\ndef area(\n    r,  # radius\n):\n    'Area.'\n    return r"
    assert not definitions_are_documented(page(HEADER, documented))
    shared_line = "#| export\ndef area(\n    r, s,  # sides\n):\n    'Area.'\n    return r"
    assert definitions_are_documented(page(HEADER, shared_line))
    field = "#| export\n@dataclass(frozen=True)\nclass A:\n    'A.'\n    r: float"
    assert definitions_are_documented(page(HEADER, field))


# ---- rules over all pages ----


def imports_point_down(pages: list[Page]) -> list[str]:
    "A page takes only from pages before it (in cells that are not exported also from itself); nothing is relative."
    home = {page.module: page for page in pages if page.module}
    complaints = []
    for page in pages:
        for cell in page.code:
            for module in _own_modules(cell.tree):
                complaints += _wrong_way(page, module, home, strict=cell.exported)
    return complaints


def _own_modules(tree: ast.AST) -> list[str]:
    "Modules of the package that a cell imports from, without the package's name; relative imports as they are."
    found = []
    for node in _imports(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif node.level:
            found.append("." * node.level + (node.module or ""))
        elif node.module in (PACKAGE, f"{PACKAGE}.nn"):
            found += [_home(node.module, alias.name) for alias in node.names]
        else:
            found.append(node.module)
    own = [m for m in found if m.startswith((".", f"{PACKAGE}."))]
    return [m.removeprefix(f"{PACKAGE}.") for m in own if m != f"{PACKAGE}.__version__"]


def _home(package: str, name: str) -> str:
    "The module of a name that is imported from the package itself: a public name's, or the one of that name."
    return f"{package}.{importlib.import_module(package)._home.get(name, name)}"


def _wrong_way(page: Page, module: str, home: dict[str, Page], strict: bool) -> list[str]:
    if page.key[0] < 0:
        return []  # the index shows what it likes
    if module not in home:
        return [f"{page.name} imports {module}, which no page exports"]
    lower = home[module].key < page.key
    return [] if lower or (not strict and home[module] is page) else [f"{page.name} imports {module} from a later page"]


def names_differ_after_the_number(pages: list[Page]) -> list[str]:
    names = [page.short_name for page in pages]
    return [f"two pages are called {name}" for name in sorted(set(names)) if names.count(name) > 1]


def keys_differ(pages: list[Page]) -> list[str]:
    keys = [page.key for page in pages]
    return [f"two pages have the number {key}" for key in sorted(set(keys)) if keys.count(key) > 1]


TREE_RULES = {
    imports_point_down: [
        page(HEADER, "#| default_exp a", "#| export\nfrom adaptive_dropout.b import x", name="01_a"),
        page(HEADER, "#| default_exp b", name="02_b"),
    ],
    names_differ_after_the_number: [page(HEADER, name="01_a"), page(HEADER, name="02_a")],
    keys_differ: [page(HEADER, name="01_a"), page(HEADER, name="01_b")],
}


@pytest.mark.parametrize("rule", TREE_RULES, ids=lambda rule: rule.__name__)
def test_the_pages_together_keep(rule):
    complaints = rule(real_pages())
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("rule", TREE_RULES, ids=lambda rule: rule.__name__)
def test_bad_pages_are_noticed_by(rule):
    assert rule(TREE_RULES[rule])


def test_the_sidebar_lists_every_page_once():
    configuration = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    listed = site_builder.entries(configuration["website"]["sidebar"]["contents"])
    assert sorted(listed) == sorted([path.name for path in notebooks.all_pages()] + list(site_builder.GENERATED))
    assert site_builder.entries(["a", {"section": "s", "contents": ["b", "c"]}]) == ["a", "b", "c"]


def test_the_index_maps_every_page():
    text = Page("index", notebooks.read(ROOT / "nbs" / "index.ipynb")).prose
    missing = [path.name for path in notebooks.all_pages() if path.stem != "index" and f"({path.name})" not in text]
    assert not missing


def test_order_of_pages():
    names = ["13_u", "12b_z", "index", "2_w", "12a_y", "12_x"]
    assert sorted(names, key=page_key) == ["index", "2_w", "12_x", "12a_y", "12b_z", "13_u"]
    low, high = page(HEADER, "#| default_exp a", name="01_a"), "#| export\nfrom adaptive_dropout{} import {}"
    for how in ((".a", "x"), ("", "a"), (".c", "x")):
        user = page(HEADER, "#| default_exp c", high.format(*how), name="02_c")
        assert bool(imports_point_down([low, user])) == (how == (".c", "x"))


def test_a_public_name_counts_as_its_module():
    solver = page(HEADER, "#| default_exp majorise", name="13_majorise")
    for name, right in (("12_early", False), ("14_late", True)):
        user = page(HEADER, "from adaptive_dropout import irls", name=name)
        assert bool(imports_point_down([solver, user])) != right
    assert _home(f"{PACKAGE}.nn", "CSRLinear") == f"{PACKAGE}.nn.compress"


# ---- rules over files ----


def tracked_files() -> list[Path]:
    "What git tracks or would track."
    command = ["git", "ls-files", "-coz", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


# Folders of one machine. A path starts after something that is no part of an address or of a relative path.
machine_path = re.compile(r"(?<![\w.~:/\-}])/(?:work|tmp|root|home|opt)/\w")


def strings(value) -> list[str]:
    "All strings in nested JSON, except pictures."
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [s for key, inner in value.items() if not key.startswith("image/") for s in strings(inner)]
    return [s for inner in value for s in strings(inner)] if isinstance(value, list) else []


def names_a_machine_path(name: str, content: bytes) -> list[str]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return []
    if name.endswith(".ipynb"):
        text = "\n".join(strings(json.loads(text)))
    return [f"{name}: {match[0]}" for match in machine_path.finditer(text)]


def is_too_large(name: str, content: bytes) -> list[str]:
    return [f"{name}: {len(content)} bytes"] if len(content) > LARGEST_FILE and name not in GENERATED else []


FILE_RULES = {
    names_a_machine_path: ("notes.md", b"see /" + b"tmp/notes"),
    is_too_large: ("data.bin", bytes(LARGEST_FILE + 1)),
}


@pytest.mark.parametrize("rule", FILE_RULES, ids=lambda rule: rule.__name__)
def test_no_file(rule):
    found = [c for path in tracked_files() for c in rule(str(path.relative_to(ROOT)), path.read_bytes())]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("rule", FILE_RULES, ids=lambda rule: rule.__name__)
def test_a_bad_file_is_noticed_by(rule):
    assert rule(*FILE_RULES[rule])


def test_machine_paths_are_told_from_addresses():
    for path in ("'/{}/x'", "open /{}/x", "(/{}/x)"):
        assert machine_path.search(path.format("home"))
    for harmless in ("https://example.org/home/x", "../work/x", "a/opt/b", "$HOME/work/x"):
        assert not machine_path.search(harmless)
    picture = json.dumps({"data": {"image/png": "+/" + "opt/x", "text/plain": "fine"}}).encode()
    assert not names_a_machine_path("page.ipynb", picture)


# ---- package and pages ----


def modules_without_a_page(modules: list[str], pages: list[Page]) -> list[str]:
    exported = {page.module for page in pages}
    return [f"{module} is exported by no page" for module in modules if module not in exported]


def test_every_module_has_its_page():
    folder = ROOT / PACKAGE
    files = [p.relative_to(folder).with_suffix("") for p in folder.rglob("*.py") if not p.name.startswith("_")]
    assert not modules_without_a_page([".".join(file.parts) for file in files], real_pages())
    assert modules_without_a_page(["ghost"], real_pages())


def test_public_names_lead_somewhere():
    import adaptive_dropout

    for name in adaptive_dropout.__all__:
        assert getattr(adaptive_dropout, name) is not None
        assert name in dir(adaptive_dropout)
    with pytest.raises(AttributeError, match="no_such_name"):
        adaptive_dropout.no_such_name  # noqa: B018


def test_no_public_name_is_hidden_by_a_module():
    import adaptive_dropout

    modules = {path.stem for path in (ROOT / PACKAGE).glob("*.py")}
    assert not modules & set(adaptive_dropout._home)
