"""Markdown -> HTML by pandoc, and what is done to the HTML: code, equations, tables, links to definitions."""

from __future__ import annotations

import html
import re
import struct
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Name, Number, Operator, String
from pygments.util import ClassNotFound
from site_api import PACKAGE, Lookup

MARKDOWN = "commonmark_x-smart"
SPLIT = "<!-- body -->"


def pandoc(markdown: str, name: str, template: Path) -> tuple[str, str]:
    "Table of contents and body; any warning of pandoc is an error."
    import pypandoc

    options = ["--mathml", "--toc", "--toc-depth=3", "--wrap=none", "--syntax-highlighting=none"]
    command = [pypandoc.get_pandoc_path(), "-f", MARKDOWN, "-t", "html5", "--metadata=pagetitle:x", *options]
    command.append(f"--template={template}")
    done = subprocess.run(command, input=markdown, capture_output=True, text=True, encoding="utf-8")
    if done.returncode or done.stderr.strip():
        raise SystemExit(f"{name}: pandoc says: {done.stderr.strip()}")
    toc, _, body = done.stdout.partition(SPLIT)
    return toc.strip(), body.strip()


# ---- code ----

KINDS = {
    Keyword: "k", Operator.Word: "k", String: "s", Comment: "c", Number: "m",
    Name.Function: "f", Name.Class: "f", Name.Decorator: "d", Name.Builtin: "b", Name.Builtin.Pseudo: None,
}  # fmt: skip


@cache
def _lexer(language: str):
    try:
        return get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return get_lexer_by_name("text", stripnl=False)


def _kind(token) -> str | None:
    while token not in KINDS and token.parent:
        token = token.parent
    return KINDS.get(token)


def highlighted(source: str, language: str) -> str:
    "Source as HTML, with a span around what has a colour."
    parts = []
    for token, text in _lexer(language).get_tokens(source):
        kind, text = _kind(token), html.escape(text)
        parts.append(f'<span class="{kind}">{text}</span>' if kind else text)
    return "".join(parts).rstrip("\n")


def code_block(source: str, language: str = "python", anchors: dict[int, list[str]] | None = None) -> str:
    "A block of code; `anchors` gives lines the ids that links lead to."
    lines = highlighted(source, language).split("\n")
    for line, ids in (anchors or {}).items():
        lines[line - 1] = "".join(f'<span class="here" id="{name}"></span>' for name in ids) + lines[line - 1]
    return f'<div class="code"><pre><code class="{language}">' + "\n".join(lines) + "</code></pre></div>"


def code_of_prose(body: str) -> str:
    "The blocks of code that pandoc made, like those of the code cells."
    block = re.compile(r'<pre(?: class="(\w+)")?><code>(.*?)</code></pre>', re.DOTALL)
    return block.sub(lambda m: code_block(html.unescape(m[2]).rstrip("\n"), m[1] or "text"), body)


def linked_imports(body: str, names: Lookup, page: str) -> str:
    "In `from adaptive_dropout.x import y`, y leads to its definition."
    begin = rf'<span class="k">from</span> ({PACKAGE}[\w.]*) <span class="k">import</span> '
    statement = re.compile(begin + r"(\((?:[^()]|\n)*\)|[^\n(<]*)")

    def link(match: re.Match) -> str:
        def one(word: re.Match) -> str:
            target = names.target(f"{match[1]}.{word[0]}", page) or names.target(word[0], page)
            return f'<a href="{target}">{word[0]}</a>' if target else word[0]

        head = match[0][: match.start(2) - match.start()]
        return head + re.sub(r"(?<![\w&])(?<!as )\w+", one, match[2])

    return statement.sub(link, body)


# ---- everything else ----

_tag = r"<(a|pre|math|h[1-6]|script{})\b.*?</\1>"


def outside(body: str, change: Callable[[str], str], more: str = "") -> str:
    "Apply `change` to what stands outside of links, code blocks, formulas, headings (and the elements in `more`)."
    parts, end = [], 0
    for match in re.finditer(_tag.format(more), body, flags=re.DOTALL):
        parts += [change(body[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(body[end:])])


def linked_names(body: str, names: Lookup, page: str) -> str:
    "Code spans that name a public definition lead to it."

    def link(match: re.Match) -> str:
        target = names.target(html.unescape(match[1]), page)
        return f'<a class="name" href="{target}">{match[0]}</a>' if target else match[0]

    return outside(body, lambda text: re.sub(r"<code>([^<]+)</code>", link, text))


def equations(body: str) -> str:
    "Formulas on lines of their own scroll when they are wide; numbered ones show their number, which can be linked to."
    tags: dict[str, str] = {}

    def framed(match: re.Match) -> str:
        formula, tag = f'<span class="formula">{match[1]}</span>', match[2]
        if not tag:
            return f'<span class="equation">{formula}</span>'
        name = "eq-" + re.sub(r"\W+", "-", html.unescape(tag)).strip("-").lower()
        place = "" if tag in tags else f' id="{name}"'
        tags.setdefault(tag, name)
        return f'<span class="equation"{place}>{formula}<a class="number" href="#{name}">({tag})</a></span>'

    body = re.sub(r"<mo>([′″])</mo>(?=</msup>|</msubsup>)", r'<mo class="prime">\1</mo>', body)
    body = re.sub(r'(<math display="block".*?</math>)(?:\ue000(.*?)\ue001)?', framed, body, flags=re.DOTALL)
    return _references(body, tags)


def unbroken(body: str) -> str:
    "No line begins with the comma that follows a formula."
    formula = r'(<math display="inline"(?:(?!</math>).)*</math>)([.,;:!?)\]’"]+)'
    return re.sub(formula, r'<span class="unbroken">\1\2</span>', body, flags=re.DOTALL)


def _references(body: str, tags: dict[str, str]) -> str:
    """ "(3)" leads to the equation of that number on the page; "eq. (3)" does not, for that is one of the papers."""
    known = [re.escape(tag) for tag in tags if re.fullmatch(r"\d+[a-z]?|[A-Z]\d?", tag)]
    if not known:
        return body
    mention = re.compile(rf"(?<![\w)\]}}.])(?<!eq\.\s)(?<!Eq\.\s)(?<!eqs\.\s)\(({'|'.join(known)})\)")
    return outside(body, lambda text: mention.sub(lambda m: f'<a href="#{tags[m[1]]}">{m[0]}</a>', text), "|code")


def tables(body: str) -> str:
    "Wide tables scroll, and their columns are as wide as what they hold."
    body = re.sub(r"<colgroup>.*?</colgroup>", "", body, flags=re.DOTALL)
    body = re.sub(r'<table style="[^"]*">', "<table>", body)
    return body.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")


def sized(body: str, pictures: dict[str, bytes]) -> str:
    "Pictures announce their size, so that the text does not jump when they arrive."

    def size(match: re.Match) -> str:
        content = pictures.get(match[1], b"")
        if not content.startswith(b"\x89PNG"):
            return match[0]
        width, height = struct.unpack(">II", content[16:24])
        return f'{match[0]} width="{width}" height="{height}"'

    return re.sub(r'<img src="([^"]*)"', size, body)


def single_ids(body: str) -> str:
    "Where a heading and a definition have the same id, the heading keeps it; of two definitions the first."
    taken = set(re.findall(r'<h[1-6][^>]* id="([^"]*)"', body))

    def once(match: re.Match) -> str:
        new = match[1] not in taken
        taken.add(match[1])
        return match[0] if new else ""

    return re.sub(r'<span class="here" id="([^"]*)"></span>', once, body)


def headings(body: str) -> str:
    "Each heading with a link to itself."
    link = r'<h\1 id="\2">\3 <a class="anchor" href="#\2" aria-label="Link to this section">#</a></h\1>'
    return re.sub(r'<h([23]) id="([^"]*)">(.*?)</h\1>', link, body, flags=re.DOTALL)


def finished(body: str, page: str, names: Lookup, pictures: dict[str, bytes]) -> str:
    "Body of the page as pandoc made it -> as it is shown."
    body = linked_imports(code_of_prose(body), names, page)
    body = unbroken(equations(linked_names(body, names, page)))
    return headings(single_ids(sized(tables(body), pictures)))


# ---- what the search looks through ----


def plain(text: str) -> str:
    "The words of a piece of HTML; blocks of code are left out, and formulas that do not fit into a line."
    text = re.sub(r"<(script|pre)\b.*?</\1>|<a class=\"anchor\".*?</a>", " ", text, flags=re.DOTALL)
    text = re.sub(r"<math\b(.*?)<annotation.*?</math>", _in_one_line, text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"</(p|li|td|th|h\d)>", " ", text))).split())


def _in_one_line(match: re.Match) -> str:
    signs = re.sub(r"<[^>]*>|[^<]*>", "", match[1])
    return signs if len(signs) <= 30 and "<mfrac" not in match[1] else " … "


def sections(body: str) -> list[tuple[str, str, str]]:
    "(id, heading, words) of each part of a page; the part before the first heading has neither id nor heading."
    parts = re.split(r'<h[23] id="([^"]*)">(.*?)</h[23]>', body, flags=re.DOTALL)
    ids, titles, texts = ["", *parts[1::3]], ["", *parts[2::3]], [parts[0], *parts[3::3]]
    return [(i, plain(title), plain(text)) for i, title, text in zip(ids, titles, texts, strict=True)]
