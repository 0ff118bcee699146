"""The site without Quarto: `make docs` builds every page of nbs/ into _docs/.

nbdev processes the notebooks (_proc/), pandoc (from the PyPI package pypandoc_binary) turns them into HTML with MathML,
and this file puts title, sidebar and style around them. Title and order come from _quarto.yml. A warning of pandoc, a
page that is missing or a link that leads nowhere is an error.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import yaml
from notebooks import NOTEBOOKS, ROOT, WIDGET_STATE, WIDGET_VIEW, _text, all_pages, read
from readme import settings

SITE = ROOT / "_docs"
PROCESSED = ROOT / "_proc"
TEMPLATE = Path(__file__).with_name("site_template.html")
MARKDOWN = "commonmark_x-smart"


# ---- notebook -> Markdown ----


def process_notebooks() -> None:
    "nbdev's part: the notebooks as the site shows them, in _proc/."
    from nbdev import doclinks
    from nbdev.config import get_config
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs

    shutil.rmtree(PROCESSED, ignore_errors=True)
    messages = io.StringIO()
    with contextlib.redirect_stderr(messages), contextlib.redirect_stdout(messages):
        refresh_quarto_yml()
        doclinks._build_modidx()
        proc_nbs(get_config().nbs_path, n_workers=2)
    if messages.getvalue().strip():
        raise SystemExit(f"nbdev says while processing the pages:\n{messages.getvalue()}")


class Page:
    """One processed notebook on its way to HTML."""

    def __init__(self, path: Path):
        self.path = path
        self.nb = read(path)
        raw = self.nb["cells"][0]["source"].strip().strip("-")
        self.front = yaml.safe_load(raw)
        self.file = self.front["output-file"]
        self.pictures = 0

    def markdown(self) -> str:
        "The page as one Markdown text; pictures are written beside it."
        parts = [f"# {self.front['title']}", f"*{self.front.get('description', '')}*"]
        for cell in self.nb["cells"][2:]:  # after the front matter and nbdev's warning not to edit
            parts.append(cell["source"] if cell["cell_type"] == "markdown" else self.code(cell))
        return "\n\n".join(parts)

    def code(self, cell: dict) -> str:
        if "show_doc(" in cell["source"]:  # the definition itself follows; keep the place that links lead to
            names = re.findall(r"show_doc\(([\w.]+)", cell["source"])
            return "\n".join(f'<span id="{name}"></span>' for name in names)
        hidden = re.search(r"^#\s*\|\s*(hide|include:\s*false)\s*$", cell["source"], flags=re.MULTILINE)
        if hidden:
            return ""
        silent = re.search(r"^#\s*\|\s*echo:\s*false", cell["source"], flags=re.MULTILINE)
        source = "\n".join(line for line in cell["source"].splitlines() if not re.match(r"#\s*\|", line)).strip("\n")
        shown = "" if silent or not source.strip() else fenced(source, "python")
        return "\n\n".join([shown, *(self.output(output) for output in cell["outputs"])])

    def output(self, output: dict) -> str:
        "One output in the richest form that a page without a kernel can show."
        data = output.get("data", {})
        if WIDGET_VIEW in data:
            return self.widget(data[WIDGET_VIEW]["model_id"])
        if "image/png" in data:
            return self.picture(data["image/png"])
        if "text/html" in data:
            return fenced(_text(data["text/html"]), "{=html}")
        if "text/markdown" in data or "text/latex" in data:
            return _text(data.get("text/markdown") or data["text/latex"])
        return fenced(_text(output.get("text") or data.get("text/plain", "")).rstrip(), "{.output}")

    def picture(self, content: str) -> str:
        self.pictures += 1
        name = f"images/{Path(self.file).stem}-{self.pictures}.png"
        (SITE / "images").mkdir(exist_ok=True)
        (SITE / name).write_bytes(base64.b64decode(_text(content)))
        return f"![Figure {self.pictures} of the page {self.front['title']}]({name})"

    def widget(self, model_id: str) -> str:
        "The frame that was saved with the page, and where to move the slider."
        state = self.nb["metadata"].get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
        children = state.get(model_id, {}).get("state", {}).get("children", [])
        models = [state.get(child.removeprefix("IPY_MODEL_"), {}) for child in children]
        frames = [self.output(o) for model in models for o in model.get("state", {}).get("outputs", ())]
        return "\n\n".join([*frames, "*The sliders move where the page runs: `make lab`.*"])


def fenced(text: str, kind: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence} {kind}\n{text}\n{fence}"


# ---- Markdown -> HTML ----


def linked(markdown: str, files: dict[str, str], values: dict[str, str]) -> str:
    "Links to notebooks become links to their pages; links to other files of the repository need its address."
    address = f"{values['git_url']}/blob/{values['branch']}/" if values["git_url"] else ""

    def link(match: re.Match) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if target in files:
            return f"[{text}]({files[target]}{anchor})"
        if target.startswith("../"):
            return f"[{text}]({address}{target[3:]}{anchor})" if address else text
        return match[0]

    return re.sub(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)", link, markdown)


def to_html(markdown: str, name: str) -> tuple[str, str]:
    "Table of contents and body; any warning of pandoc is an error."
    import pypandoc

    split = "<!-- body -->"
    template = SITE / "pandoc.template"
    template.write_text(f"$toc$\n{split}\n$body$", encoding="utf-8")
    options = ["--mathml", "--toc", "--toc-depth=3", "--fail-if-warnings", "--wrap=none", f"--template={template}"]
    command = [pypandoc.get_pandoc_path(), "-f", MARKDOWN, "-t", "html5", "--metadata=pagetitle:x", *options]
    done = subprocess.run(command, input=markdown, capture_output=True, text=True, encoding="utf-8")
    template.unlink()
    if done.returncode or done.stderr.strip():
        raise SystemExit(f"{name}: pandoc says: {done.stderr.strip()}")
    toc, _, body = done.stdout.partition(split)
    return toc, body


def entries(contents: list) -> list[str]:
    "Files that a sidebar names, sections opened."
    inner = [entries(entry["contents"]) if isinstance(entry, dict) else [entry] for entry in contents]
    return [name for names in inner for name in names]


def sidebar(contents: list, titles: dict[str, tuple[str, str]], here: str) -> str:
    "The sidebar of _quarto.yml as nested lists; the page that is open is marked."
    items = []
    for entry in contents:
        if isinstance(entry, dict):
            items.append(f"<li>{html.escape(entry['section'])}{sidebar(entry['contents'], titles, here)}</li>")
        else:
            file, title = titles[entry]
            current = ' aria-current="page"' if file == here else ""
            items.append(f'<li><a href="{file}"{current}>{html.escape(title)}</a></li>')
    return "<ul>" + "".join(items) + "</ul>"


def build() -> list[str]:
    "Build the site; returns the names of its files."
    website = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]
    values, frame = settings(), TEMPLATE.read_text(encoding="utf-8")
    process_notebooks()
    missing = [path.name for path in all_pages() if not (PROCESSED / path.name).exists()]
    if missing:
        raise SystemExit(f"nbdev left out {', '.join(missing)} (a checkout below a folder with a dot does that)")
    unknown = sorted(set(entries(website["sidebar"]["contents"])) - {path.name for path in all_pages()})
    if unknown:
        raise SystemExit(f"the sidebar in _quarto.yml lists pages that are not there: {', '.join(unknown)}")
    shutil.rmtree(SITE, ignore_errors=True)
    SITE.mkdir()
    if (NOTEBOOKS / "images").is_dir():
        shutil.copytree(NOTEBOOKS / "images", SITE / "images")
    pages = [Page(PROCESSED / path.name) for path in all_pages()]
    files = {page.path.name: page.file for page in pages}
    titles = {page.path.name: (page.file, page.front["title"]) for page in pages}
    for page in pages:
        toc, body = to_html(linked(page.markdown(), files, values), page.path.name)
        menu = sidebar(website["sidebar"]["contents"], titles, page.file)
        filled = {"title": html.escape(page.front["title"]), "site": html.escape(website["title"])}
        filled |= {
            "description": html.escape(page.front.get("description", "")),
            "sidebar": menu,
            "toc": toc,
            "body": body,
        }
        text = re.sub(r"\{\{(\w+)\}\}", lambda match, filled=filled: filled[match[1]], frame)
        (SITE / page.file).write_text(text, encoding="utf-8")
    return sorted(files.values())


# ---- links ----


class Links(HTMLParser):
    """Collects what a page points to and what can be pointed at in it."""

    def __init__(self, text: str):
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found["id"]} if found.get("id") else set()
        self.targets += [found[key] for key in ("href", "src") if found.get(key)]


def dead_links(folder: Path = SITE) -> list[str]:
    "Relative links of the site that lead to no file or to no place in it."
    pages = {path.name: Links(path.read_text(encoding="utf-8")) for path in folder.glob("*.html")}
    dead = []
    for name, page in pages.items():
        for target in page.targets:
            file, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            there = (folder / (file or name)).is_file() and not file.startswith("/")
            known = not anchor or anchor in pages.get(file or name, page).ids
            if not (there and known):
                dead.append(f"{name}: {target}")
    return dead


def main() -> int:
    built = build()
    dead = dead_links()
    for line in dead:
        print("dead link:", line)
    print(f"{len(built)} pages in {SITE.name}/, {len(dead)} dead links")
    return 1 if dead or not built else 0


if __name__ == "__main__":
    sys.exit(main())
