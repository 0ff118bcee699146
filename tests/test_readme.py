"""README.md and the address: what is generated, from what."""

import ast
import json
import re
from pathlib import Path

import pytest
import readme
from notebooks import ROOT


def index(*cells) -> dict:
    "A notebook from (kind, source, outputs) triples."
    kinds = {"md": "markdown", "py": "code"}
    return {"cells": [{"cell_type": kinds[k], "source": source, "outputs": out} for k, source, out in cells]}


def test_links_are_seen_from_the_root():
    given = "[a](02_noise.ipynb#x) [b](../CHANGELOG.md) ![c](images/c.png) [d](https://e.org/f) [g](#h)"
    moved = "[a](nbs/02_noise.ipynb#x) [b](CHANGELOG.md) ![c](nbs/images/c.png) [d](https://e.org/f) [g](#h)"
    assert readme.relative_to_root(given) == moved
    assert readme.relative_to_root('<img src="images/c.png" width="600">') == '<img src="nbs/images/c.png" width="600">'


def test_code_and_its_output_are_shown_pictures_and_hidden_cells_are_not():
    picture = {"output_type": "display_data", "data": {"image/png": "...", "text/plain": "<Figure>"}}
    page = index(
        ("md", "# T\n\n> D.", None),
        ("py", "#| export\nx = 1", []),
        ("py", "#| hide\nsecret()", []),
        ("py", "#| echo: false\nquiet()", [{"output_type": "stream", "name": "stdout", "text": "said\n"}]),
        ("py", "import a", []),
        ("py", "#| eval: true\n1 + 1", [{"output_type": "execute_result", "data": {"text/plain": "2"}}, picture]),
        ("py", "y = 2", []),
    )
    text = readme.readme(page)
    shown = "```text\nsaid\n```\n\n```python\nimport a\n\n1 + 1\n```\n\n```text\n2\n```\n\n```python\ny = 2\n```\n"
    assert text.endswith(f"# T\n\n> D.\n\n{shown}"), "what shows nothing joins what follows"
    assert not re.search("Figure|x = 1|secret|quiet", text)


def test_links_to_the_repository_derive_from_its_address():
    page = index(("md", "# T\n\n> D.", None))
    assert "http" not in readme.readme(page)
    assert "https://host/o/r/actions" in readme.readme(page, "https://host/o/r")
    values = {"version": "1.2.3", "git_url": "https://host/o/r"}
    with_address = readme.citation("title: x\nversion: 0.0.0\n", values)
    assert with_address == "title: x\nrepository-code: https://host/o/r\nversion: 1.2.3\n"
    assert readme.citation(with_address, values) == with_address
    assert readme.citation(with_address, {**values, "git_url": ""}) == "title: x\nversion: 1.2.3\n"


def test_generated_files_are_up_to_date():
    for path, wanted in readme.derived_files().items():
        assert path.read_text(encoding="utf-8") == wanted, f"{path.name}: run `make export`"


def test_the_map_says_what_the_pages_say(tmp_path):
    cells = [{"cell_type": "markdown", "source": "# A | B\n\n> New [sentence](x.ipynb).", "outputs": []}]
    (tmp_path / "12ca_vectors.ipynb").write_text(json.dumps({"cells": cells}))
    rows = readme.rows_of_map([tmp_path / "12ca_vectors.ipynb"])
    row = "| [12ca A | B](12ca_vectors.ipynb) | New [sentence](x.ipynb). |"
    assert rows == {"12ca_vectors.ipynb": row}
    old = "| [12ca Old](12ca_vectors.ipynb) | Old. |"
    given = f"| page |\n|---|\n{old}\n| [x](13_other.ipynb) | y |\n[12ca](12ca_vectors.ipynb)"
    assert readme.mapped(given, rows) == given.replace(old, row)


def test_the_code_of_the_readme_runs_where_the_readme_is():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks and "../" not in "".join(blocks)
    for block in blocks:
        compile(block, "README.md", "exec")
        assert any(not isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(block).body)


def test_first_screen_names_the_two_commands_in_order():
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:30])
    assert 0 < first_screen.index("make run") < first_screen.index("make test")
    for needed in ("3.11", "3.13", "make"):
        assert needed in first_screen


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_relative_links_lead_to_files(name):
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    missing = [target for target in targets if not re.match(r"[a-z]+:", target) and not Path(ROOT / target).exists()]
    assert not missing
