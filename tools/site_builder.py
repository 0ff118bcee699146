"""The site: `make docs` builds every page of nbs/ into _docs/.

    python tools/site_builder.py             # by pandoc (from the PyPI package pypandoc_binary)
    python tools/site_builder.py --quarto    # by Quarto, which must be installed

Both take title, order and sections from _quarto.yml, the pages from nbs/, and two pages that are made here: the names
of the package (site_api.py) and CHANGELOG.md. A warning, a missing page or a link that leads nowhere is an error.
By pandoc, nbdev processes a notebook (site_pages.py), pandoc makes HTML with MathML of it (site_html.py), and this file
puts title, sidebar and search around it. What a page needs in the browser is in tools/site/; nothing is fetched.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import site_html
import yaml
from notebooks import NOTEBOOKS, ROOT, all_pages, read
from readme import settings
from site_api import Definition, Lookup, api_page, changes_page, definitions, html_name, numbered_title, page_number
from site_pages import Page, fenced, page_of, processed

__all__ = ["build", "dead_links", "entries", "fenced", "linked"]

SITE = ROOT / "_docs"
PROCESSED = ROOT / "_proc"  # Quarto's input
TEMPLATE = Path(__file__).with_name("site_template.html")
ASSETS = Path(__file__).with_name("site")
GENERATED = {  # pages without a notebook: title and description
    "api.qmd": ("Names of the package", "Every public function and class, and the page that defines it."),
    "changes.qmd": ("Changes", "What a user of the package gets with each version."),
}


# ---- what is on the site ----


def website() -> dict:
    "The part of _quarto.yml about the site, after a look at whether all its pages are there."
    found = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]
    listed, there = entries(found["sidebar"]["contents"]), {path.name for path in all_pages()} | set(GENERATED)
    if unknown := sorted(set(listed) - there):
        raise SystemExit(f"the sidebar in _quarto.yml lists pages that are not there: {', '.join(unknown)}")
    return found


def entries(contents: list) -> list[str]:
    "Files that a sidebar names, sections opened."
    inner = [entries(entry["contents"]) if isinstance(entry, dict) else [entry] for entry in contents]
    return [name for names in inner for name in names]


def titles_of_pages() -> dict[str, str]:
    "Source -> title, of all pages."
    found = {path.name: read(path)["cells"][0]["source"].splitlines()[0].lstrip("# ") for path in all_pages()}
    return found | {name: title for name, (title, _) in GENERATED.items()}


def generated_pages(known: list[Definition], titles: dict[str, str]) -> list[Page]:
    sources = {html_name(source): source for source in titles}
    by_file = {file: titles[source] for file, source in sources.items()}
    bodies = {"api.qmd": api_page(known, sources, by_file), "changes.qmd": changes_page()}
    return [Page(name, *about, bodies[name]) for name, about in GENERATED.items()]


# ---- one page ----


@dataclass(frozen=True)
class Common:
    """What every page needs to know."""

    folder: Path
    files: dict[str, str]  # source -> file of the site
    values: dict[str, str]  # settings.ini
    names: Lookup


@dataclass(frozen=True)
class Rendered:
    """A page as HTML, still without what stands around it."""

    source: str
    file: str
    title: str
    description: str
    toc: str
    body: str


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


def render(common: Common, page: Page | Path) -> Rendered:
    "HTML of one page; its pictures are written."
    if isinstance(page, Path):
        page = page_of(page.name, processed(page))
    for name, content in page.pictures.items():
        (common.folder / name).write_bytes(content)
    markdown = linked(page.body, common.files, common.values)
    toc, body = site_html.pandoc(markdown, page.source, common.folder / "pandoc.template")
    pictures = page.pictures | {f"images/{p.name}": p.read_bytes() for p in (NOTEBOOKS / "images").glob("*.png")}
    body = site_html.finished(body, page.file, common.names, pictures)
    return Rendered(page.source, page.file, page.title, page.description, toc, body)


# ---- around a page ----


def sidebar(contents: list, titles: dict[str, tuple[str, str]], here: str, live: frozenset = frozenset()) -> str:
    """The sidebar of _quarto.yml as nested lists, with the numbers of the pages.

    The page that is open is marked, and so are the sections around it; `live` are pages whose pictures move here.
    """
    items = []
    for entry in contents:
        if isinstance(entry, dict):
            inside = here in [titles[name][0] for name in entries(entry["contents"])]
            inner = sidebar(entry["contents"], titles, here, live)
            head = f"<summary>{html.escape(entry['section'])}</summary>"
            items.append(f"<li><details{' open' if inside else ''}>{head}{inner}</details></li>")
        else:
            file, title = titles[entry]
            current = ' aria-current="page"' if file == here else ""
            inner = with_number(entry, title) + (' <span class="live">moves here</span>' if entry in live else "")
            items.append(f'<li><a href="{file}"{current}>{inner}</a></li>')
    return "<ul>" + "".join(items) + "</ul>"


def with_number(source: str, title: str) -> str:
    number = page_number(source)
    return (f'<span class="page">{number}</span> ' if number else "") + html.escape(title)


def neighbours(order: list[str], titles: dict[str, tuple[str, str]], source: str) -> str:
    "Links to the page before and the page after, in the order of the sidebar."
    if source not in order:
        return ""
    place, links = order.index(source), []
    for kind, label, step in (("prev", "Before", -1), ("next", "Next", 1)):
        if 0 <= place + step < len(order):
            file, title = titles[order[place + step]]
            inner = f"<small>{label}</small>{with_number(order[place + step], title)}"
            links.append(f'<a rel="{kind}" href="{file}">{inner}</a>')
    return "".join(links)


def open_elsewhere(source: str, values: dict[str, str]) -> str:
    "Where the page can be run or read, once the project has an address."
    address, branch = values["git_url"].rstrip("/"), values["branch"]
    if not address or not source.endswith(".ipynb"):
        return ""
    links = {"Source": f"{address}/blob/{branch}/nbs/{source}"}
    if address.startswith("https://github.com/"):
        project = address.removeprefix("https://github.com/")
        links["Colab"] = f"https://colab.research.google.com/github/{project}/blob/{branch}/nbs/{source}"
        links["Binder"] = f"https://mybinder.org/v2/gh/{project}/{branch}?labpath=nbs/{source}"
    return " · ".join(f'<a href="{html.escape(url)}">{name}</a>' for name, url in links.items())


def filled(frame: str, parts: dict[str, str]) -> str:
    "The template with {{name}} replaced by the part of that name."
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], frame)


def written(pages: list[Rendered], site: dict, common: Common) -> None:
    "Write every page with what stands around it, and what they share."
    frame, contents = TEMPLATE.read_text(encoding="utf-8"), site["sidebar"]["contents"]
    titles, order = {page.source: (page.file, page.title) for page in pages}, entries(contents)
    live = frozenset(page.source for page in pages if '<div class="anywidget">' in page.body)
    for page in pages:
        parts = {key: html.escape(value) for key, value in asdict(page).items() if key not in ("toc", "body")}
        parts |= {"toc": page.toc, "body": page.body, "site": html.escape(site["title"])}
        parts |= {"heading": with_number(page.source, page.title), "neighbours": neighbours(order, titles, page.source)}
        parts |= {"title": html.escape(numbered_title(page.source, page.title))}
        parts["sidebar"] = sidebar(contents, titles, page.file, live)
        parts["elsewhere"] = open_elsewhere(page.source, common.values)
        (common.folder / page.file).write_text(filled(frame, parts), encoding="utf-8")
    for asset in ASSETS.iterdir():
        shutil.copy(asset, common.folder / asset.name)
    index = "SEARCH = " + json.dumps(search_index(pages, common.names), ensure_ascii=False, separators=(",", ":"))
    (common.folder / "search_index.js").write_text(index + ";\n", encoding="utf-8")
    if host := common.values["doc_host"]:  # a sitemap must name full addresses
        base = host.rstrip("/") + "/" + common.values["doc_baseurl"].strip("/")
        (common.folder / "sitemap.xml").write_text(sitemap(pages, base.rstrip("/")), encoding="utf-8")


def search_index(pages: list[Rendered], names: Lookup) -> list[list[str]]:
    "Rows [address, title of the page, heading or name, words]: the sections of all pages and the public names."
    rows, titles = [], {page.file: numbered_title(page.source, page.title) for page in pages}
    for page in pages:
        found = site_html.sections(page.body) if page.source != "api.qmd" else []
        first = page.description + " "
        for name, heading, words in found:
            rows.append([page.file + ("#" + name if name else ""), titles[page.file], heading, (first + words).strip()])
            first = ""
    known = {item.target: item for items in names.table.values() for item in items}
    rows += [[d.target, titles[d.page], d.name, d.summary, d.module] for d in known.values() if d.page in titles]
    return rows


def sitemap(pages: list[Rendered], base: str) -> str:
    urls = "".join(f"<url><loc>{html.escape(base)}/{page.file}</loc></url>" for page in pages)
    return f'<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{urls}</urlset>\n'


# ---- the whole site ----


def build(folder: Path = SITE) -> list[str]:
    "Build the site by pandoc; returns the names of its files."
    import nbdev.processors  # noqa: F401  # once, before the processes that need it

    site, titles, known = website(), titles_of_pages(), definitions()
    common = Common(folder, {source: html_name(source) for source in titles}, settings(), Lookup(known))
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    for picture in (NOTEBOOKS / "images").glob("*"):
        shutil.copy(picture, folder / "images")
    template = folder / "pandoc.template"
    template.write_text(f"$toc$\n{site_html.SPLIT}\n$body$", encoding="utf-8")
    work = [*all_pages(), *generated_pages(known, titles)]
    with get_context("fork").Pool(2) as pool:
        pages = pool.map(partial(render, common), work, chunksize=1)
    template.unlink()
    written(pages, site, common)
    return sorted(page.file for page in pages)


def build_by_quarto() -> None:
    "Build the site by Quarto; a warning in its log is an error, for it exits with 0 after dead references."
    from nbdev.config import get_config
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs

    website()
    shutil.rmtree(PROCESSED, ignore_errors=True)
    refresh_quarto_yml()
    proc_nbs(get_config().nbs_path)
    number_titles(PROCESSED)
    for page in generated_pages(definitions(), titles_of_pages()):
        front = yaml.safe_dump({"title": page.title, "description": page.description}, allow_unicode=True)
        (PROCESSED / page.source).write_text(f"---\n{front}---\n\n{page.body}", encoding="utf-8")
    done = subprocess.run(
        ["quarto", "render", "--no-cache"], cwd=PROCESSED, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(done.stdout)
    warnings = [line for line in done.stdout.splitlines() if "WARN" in line]
    if done.returncode or warnings:
        raise SystemExit("\n".join([f"quarto: status {done.returncode}, {len(warnings)} warnings", *warnings]))
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.move(PROCESSED / SITE.name, SITE)


def number_titles(folder: Path) -> None:
    "Put the number of each processed page in front of its title, for Quarto's sidebar and search."
    for path in folder.glob("*.ipynb"):
        nb = read(path)
        front = yaml.safe_load(nb["cells"][0]["source"].strip().strip("-"))
        front["title"] = numbered_title(path.name, front["title"])
        nb["cells"][0]["source"] = f"---\n{yaml.safe_dump(front, allow_unicode=True)}---\n\n"
        path.write_text(json.dumps(nb, ensure_ascii=False), encoding="utf-8")


# ---- links ----


def _places(text: str) -> tuple[list[str], set[str]]:
    "What a page points to, and what can be pointed at in it."
    targets, ids = [], set()
    for tag in re.findall(r"<[a-zA-Z][^<>]*>", text):
        for key, value in re.findall(r'\s(id|href|src)="([^"]*)"', tag):
            if key == "id":
                ids.add(value)
            elif value:
                targets.append(html.unescape(value))
    return targets, ids


def dead_links(folder: Path = SITE) -> list[str]:
    "Relative links of the site that lead to no file or to no place in it."
    pages = {path.name: _places(path.read_text(encoding="utf-8")) for path in folder.glob("*.html")}
    dead = []
    for name, (targets, _) in pages.items():
        for target in targets:
            file, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            there = (folder / (file or name)).is_file() and not file.startswith("/")
            known = not anchor or anchor in pages.get(file or name, pages[name])[1]
            if not (there and known):
                dead.append(f"{name}: {target}")
    return dead


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quarto", action="store_true", help="build by Quarto instead of pandoc")
    options = parser.parse_args(arguments)
    if options.quarto:
        os.chdir(ROOT)  # nbdev looks for settings.ini from where it is called
        build_by_quarto()
        return 0
    built = build()
    dead = dead_links()
    for line in dead:
        print("dead link:", line)
    print(f"{len(built)} pages in {SITE.name}/, {len(dead)} dead links")
    return 1 if dead or not built else 0


if __name__ == "__main__":
    sys.exit(main())
