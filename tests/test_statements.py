"""The page that lists the papers' statements, run on the pages as they are and on lists and links that must fail."""

import contextlib
import io

import notebooks
import pytest
from notebooks import NOTEBOOKS

PAGE = notebooks.read(NOTEBOOKS / "79e_statements.ipynb")
CODE = [cell["source"] for cell in PAGE["cells"] if cell["cell_type"] == "code"]


def run(monkeypatch, change=lambda source: source) -> dict:
    "The names that the page's code defines, after a change of its source; the page's own asserts are run."
    monkeypatch.chdir(NOTEBOOKS)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for source in CODE:
            exec(change(source), names)
    return names


def test_every_statement_has_a_page_and_the_stored_tables_are_those_of_the_pages(monkeypatch):
    names = run(monkeypatch)
    outputs = [output["data"] for cell in PAGE["cells"] for output in cell.get("outputs", []) if "data" in output]
    stored = ["".join(data["text/markdown"]) for data in outputs]
    advice = 'a page has changed: run `make outputs ARGS="79e_statements"`'
    assert stored == [names["table_of"](paper) for paper in "ABC"], advice


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("eq. 1: penalised empirical risk", "eq. 1: penalised empirical risk | eq. 22: not in the paper"),
        ("Lemma 2: no capacity control", "Lemma 12: no capacity control"),
        ('glob("*.ipynb")', 'glob("*[!s].ipynb")'),
    ],
    ids=["statement without a page", "reference to no statement", "dead link"],
)
def test_what_is_missing_is_noticed(monkeypatch, old, new):
    assert any(old in source for source in CODE)
    with pytest.raises(AssertionError):
        run(monkeypatch, lambda source: source.replace(old, new))
