"""Writes what derives from settings.ini and the pages: the map of pages in nbs/index.ipynb, README.md of that page, and
version and address in CITATION.cff.

python tools/readme.py            # write
python tools/readme.py --check    # only compare; exit status 1 when a file is out of date
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from configparser import ConfigParser
from pathlib import Path

from notebooks import NOTEBOOKS, ROOT, _text, all_pages, read

NOTE = "<!-- Generated from nbs/index.ipynb by tools/readme.py: edit the notebook, then `make export`. -->\n"
HIDDEN = re.compile(r"^#\s*\|\s*(hide|export|exporti|default_exp\b.*)\s*$", flags=re.MULTILINE)
SILENT = re.compile(r"^#\s*\|\s*echo:\s*false\s*$", flags=re.MULTILINE)


def settings(root: Path = ROOT) -> dict[str, str]:
    "settings.ini as a dictionary of stripped strings."
    config = ConfigParser(delimiters=["="])
    config.read(root / "settings.ini", encoding="utf-8")
    return {key: value.strip() for key, value in config["DEFAULT"].items()}


def relative_to_root(markdown: str) -> str:
    "Links of a page in nbs/ as seen from the folder above: `x.ipynb` -> `nbs/x.ipynb`, `../x` -> `x`."

    def moved(match: re.Match) -> str:
        before, target = match[1], match[2]
        if re.match(r"[a-z]+:|#|/", target):
            return match[0]
        return before + (target[3:] if target.startswith("../") else f"nbs/{target}")

    in_text = re.sub(r"(\]\()([^)\s]+)", moved, markdown)
    return re.sub(r'(<(?:img|source)\b[^>]*\bsrc(?:set)?=")([^"]+)', moved, in_text)


def code_block(cell: dict) -> str:
    "A code cell with its text outputs as fenced Markdown; empty for hidden cells, without the code for silent ones."
    if HIDDEN.search(cell["source"]):
        return ""
    source = "\n".join(line for line in cell["source"].splitlines() if not re.match(r"#\s*\|", line)).strip()
    blocks = [f"```python\n{source}\n```"] if source and not SILENT.search(cell["source"]) else []
    for output in cell["outputs"]:
        text = _text(output.get("text", "") or output.get("data", {}).get("text/plain", "")).rstrip()
        is_figure = "image/png" in output.get("data", {})
        if text and not is_figure and output.get("name") != "stderr":
            blocks.append(f"```text\n{text}\n```")
    return "\n\n".join(blocks)


def one_block(blocks: list[str]) -> list[str]:
    "Code that shows nothing, such as imports, joins the code that follows it."
    joined: list[str] = []
    for block in blocks:
        follows = bool(joined) and joined[-1].startswith("```python") and joined[-1].count("```") == 2
        if follows and block.startswith("```python\n"):
            joined[-1] = joined[-1].removesuffix("```") + "\n" + block.removeprefix("```python\n")
        else:
            joined.append(block)
    return joined


def rows_of_map(pages: list[Path]) -> dict[str, str]:
    "Name of a page -> its row in the map: number and title with a link, and the sentence below the title."
    first = {path: read(path)["cells"][0]["source"].splitlines() for path in pages}
    return {
        p.name: f"| [{p.stem.partition('_')[0]} {t[2:]}]({p.name}) | {s[2:]} |" for p, (t, _, s, *_) in first.items()
    }


def mapped(markdown: str, rows: dict[str, str]) -> str:
    "Markdown in which each row that begins with a link to a page is the row of that page."
    row = re.compile(r"^\| \[[^\]]*\]\(([^()/]+\.ipynb)\) \| .*\|$", flags=re.MULTILINE)
    return row.sub(lambda match: rows.get(match[1], match[0]), markdown)


def badges(address: str) -> str:
    "What is shown below the title once the project has an address."
    return f"[![tests]({address}/actions/workflows/tests.yml/badge.svg)]({address}/actions/workflows/tests.yml)"


def readme(index: dict, address: str = "") -> str:
    "The README made from the index page."
    parts = []
    for cell in index["cells"]:
        parts.append(relative_to_root(cell["source"].strip()) if cell["cell_type"] == "markdown" else code_block(cell))
    title, _, rest = parts[0].partition("\n")
    shield = badges(address.rstrip("/")) if address else ""
    shown = one_block([part for part in parts[1:] if part])
    return "\n\n".join(part for part in [NOTE + title, shield, rest.strip(), *shown] if part) + "\n"


def citation(text: str, values: dict[str, str]) -> str:
    "CITATION.cff with the version and, where there is one, the address of settings.ini."
    text = re.sub(r"^version: .*$", f"version: {values['version']}", text, count=1, flags=re.MULTILINE)
    text = re.sub(r"^repository-code: .*\n", "", text, flags=re.MULTILINE)
    if values["git_url"]:
        text = text.replace("\nversion: ", f"\nrepository-code: {values['git_url']}\nversion: ", 1)
    return text


def derived_files(root: Path = ROOT) -> dict[Path, str]:
    "File -> what it should hold."
    values = settings(root)
    cff = root / "CITATION.cff"
    page = NOTEBOOKS / values["readme_nb"]
    index, stored = read(page), json.loads(page.read_text(encoding="utf-8"))
    rows = rows_of_map([path for path in all_pages() if path != page])
    for cell, kept in zip(index["cells"], stored["cells"], strict=True):
        cell["source"] = mapped(cell["source"], rows)
        kept["source"] = cell["source"].splitlines(keepends=True)
    return {
        page: json.dumps(stored, indent=1, ensure_ascii=False, sort_keys=True) + "\n",
        root / "README.md": readme(index, values["git_url"]),
        cff: citation(cff.read_text(encoding="utf-8"), values),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args(arguments).check
    stale = 0
    for path, wanted in derived_files().items():
        present = path.read_text(encoding="utf-8") if path.exists() else ""
        if present == wanted:
            continue
        stale += 1
        if check:
            lines = (present.splitlines(), wanted.splitlines())
            diff = difflib.unified_diff(*lines, path.name, "generated", lineterm="", n=1)
            print(f"{path.name} is out of date (make export writes it):", *list(diff)[:30], sep="\n  ")
        else:
            path.write_text(wanted, encoding="utf-8")
            print(f"wrote {path.name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
