"""A notebook as the Markdown of its page on the site: prose, code that can be linked to, stored outputs."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from notebooks import ROOT, WIDGET_STATE, WIDGET_VIEW, _text
from site_api import html_name, places
from site_html import code_block

WIDEST = 100  # columns of printed text; longer lines are wrapped
MARK = "\ue000{}\ue001"  # around what a later step puts into the HTML


def processed(path: Path) -> dict:
    """The notebook as nbdev hands it to Quarto, but nothing is executed and names are not linked.

    What nbdev computes by executing (tables of parameters) is not on this site, which shows the definition itself.
    """
    from execnb.nbio import read_nb
    from nbdev.processors import FilterDefaults

    class Filter(FilterDefaults):
        def procs(self):
            return [step for step in super().procs() if step.__name__ not in ("exec_show_docs", "add_links")]

    messages = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stderr(messages), contextlib.redirect_stdout(messages):
        nb = read_nb(path)
        Filter()(nb)
    if messages.getvalue().strip():
        raise SystemExit(f"nbdev says while processing {path.name}:\n{messages.getvalue()}")
    return nb


@dataclass
class Page:
    """A page on its way to HTML."""

    source: str  # 21_ksupport.ipynb
    title: str
    description: str
    body: str = ""  # Markdown
    pictures: dict[str, bytes] = field(default_factory=dict)

    @property
    def file(self) -> str:
        return html_name(self.source)


def page_of(source: str, nb: dict) -> Page:
    "The page of a processed notebook."
    front = yaml.safe_load(nb["cells"][0]["source"].strip().strip("-"))
    page = Page(source, front["title"], front.get("description", ""))
    page.body = "\n\n".join(_Cells(page, nb).markdown())
    return page


class _Cells:
    """Turns the cells of one notebook into Markdown and collects its pictures."""

    def __init__(self, page: Page, nb: dict):
        self.page = page
        self.cells = nb["cells"][2:]  # after the front matter and nbdev's warning not to edit
        self.state = nb["metadata"].get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
        calls = (re.findall(r"^show_doc\(([\w.]+)", c["source"], re.MULTILINE) for c in self.cells)
        self.shown = {name.lower() for names in calls for name in names}
        self.heading, self.prose = "", ""  # above the cell that is being looked at

    def markdown(self) -> list[str]:
        return [self.text(c["source"]) if c["cell_type"] == "markdown" else self.code(c) for c in self.cells]

    def text(self, source: str) -> str:
        headings = re.findall(r"^#{2,3} (.*)$", source, flags=re.MULTILINE)
        self.heading, self.prose = headings[-1] if headings else self.heading, source
        return numbered(source)

    def code(self, cell: dict) -> str:
        if re.search(r"^show_doc\(|^#\s*\|\s*(hide|include:\s*false)\s*$", cell["source"], flags=re.MULTILINE):
            return ""
        silent = re.search(r"^#\s*\|\s*echo:\s*false", cell["source"], flags=re.MULTILINE)
        source = "\n".join(line for line in cell["source"].splitlines() if not re.match(r"#\s*\|", line)).strip("\n")
        shown = "" if silent or not source.strip() else raw(code_block(source, "python", self.anchors(source)))
        return "\n\n".join([shown, *(self.output(output) for output in cell["outputs"])])

    def anchors(self, source: str) -> dict[int, list[str]]:
        "Line -> ids, in a cell that defines something which the page exports."
        if not re.search(r"^(async def|def|class|@)", source, flags=re.MULTILINE):
            return {}
        kept = {line: [i for i in ids if i.partition(".")[0] in self.shown] for line, ids in places(source).items()}
        return {line: ids for line, ids in kept.items() if ids}

    def output(self, output: dict) -> str:
        "One output in the richest form that a page without a kernel can show."
        data = output.get("data", {})
        if WIDGET_VIEW in data:
            return self.widget(data[WIDGET_VIEW]["model_id"])
        if "image/png" in data:
            return self.picture(data["image/png"])
        if "text/html" in data:
            return raw(f'<div class="scroll">{_text(data["text/html"])}</div>')
        if "text/markdown" in data or "text/latex" in data:
            return numbered(_text(data.get("text/markdown") or data["text/latex"]))
        text = _text(output.get("text") or data.get("text/plain", "")).rstrip()
        if text.startswith("<Figure size"):
            raise SystemExit(f"{self.page.source} shows {text} where no picture is: plt.close(figure)")
        return raw(printed(text)) if text else ""

    def picture(self, content: str) -> str:
        number = len(self.page.pictures) + 1
        name = f"images/{Path(self.page.file).stem}-{number}.png"
        self.page.pictures[name] = base64.b64decode(_text(content))
        parts = (f"Figure {number} of the page {self.page.title}", self.heading, about_the_picture(self.prose))
        words = " – ".join(re.sub(r"[$`*\\]", "", part) for part in parts if part)
        return raw(f'<figure><img src="{name}" alt="{html.escape(words)}" /></figure>')

    def widget(self, model_id: str) -> str:
        "An explorer that computes in the browser is live; of other widgets the frame saved with the page is shown."
        parts = self.widget_parts(model_id)
        if not any('class="anywidget"' in part for part in parts):
            parts.append("*The sliders move where the page runs: `make lab`.*")
        return "\n\n".join(parts)

    def widget_parts(self, model_id: str) -> list[str]:
        model = self.state.get(model_id.removeprefix("IPY_MODEL_"), {})
        state = model.get("state", {})
        if model.get("model_module") == "anywidget":
            return [raw(live_widget(model))]
        frames = [self.output(output) for output in state.get("outputs", ())]
        return frames + [part for child in state.get("children", ()) for part in self.widget_parts(child)]


def about_the_picture(markdown: str) -> str:
    "The last sentence of a text that speaks of a picture; empty if there is none, or only one with formulas."
    picture = r"\b(picture|figure|curves?|left|right|points|dashed|axis|lines?)\b"
    text = re.sub(r"^#.*$", "", markdown, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)|[*`]", r"\1", text)
    sentences = [" ".join(s.split()) for s in re.split(r"(?<=[.!?])\s+(?=[A-Z])|\n\s*\n", text)]
    found = [sentence for sentence in sentences if re.search(picture, sentence, flags=re.IGNORECASE)]
    return found[-1] if found and not re.search(r"[$\\|]", found[-1]) else ""


def printed(text: str) -> str:
    "Printed text as HTML. A table with a ruled header becomes one; other long lines are wrapped, or set smaller."
    lines = text.split("\n")
    rule = next((k for k, line in enumerate(lines) if k and re.fullmatch(r"-+( · -+)+", line)), 0)
    if rule:
        end = next((k for k in range(rule, len(lines)) if " · " not in lines[k]), len(lines))
        rows = [[cell.strip() for cell in line.split(" · ")] for line in (lines[rule - 1], *lines[rule + 1 : end])]
        around = ["\n".join(lines[: rule - 1]).rstrip(), "\n".join(lines[end:]).strip("\n")]
        before, after = (printed(part) if part else "" for part in around)
        return f'{before}<div class="printed">{_table(rows)}</div>{after}'
    widest = max(map(len, lines))
    if widest > WIDEST:
        wrapped = "".join(f"<span>{html.escape(line)}\n</span>" for line in lines)
        return f'<pre class="output wrapped">{wrapped}</pre>'
    smaller = f' style="--columns: {widest}"' if widest > 78 else ""
    return f'<pre class="output"{smaller}>{html.escape(text)}</pre>'


def _table(rows: list[list[str]]) -> str:
    "Rows as HTML; the first is the header."

    def line(row: list[str], kind: str) -> str:
        cells = (re.sub(r"\S*\de-\d+", r'<span class="unbroken">\g<0></span>', html.escape(cell)) for cell in row)
        return "<tr>" + "".join(f"<{kind}>{cell}</{kind}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows[1:])
    return f"<table><thead>{line(rows[0], 'th')}</thead><tbody>{body}</tbody></table>"


def live_widget(model: dict) -> str:
    "The place of an anywidget, with all that the host in the browser needs (tools/site/anywidget_host.js)."
    given = {"state": model["state"], "buffers": model.get("buffers", [])}
    text = json.dumps(given, sort_keys=True, ensure_ascii=False).replace("<", "\\u003c")
    return f'<div class="anywidget"><script type="application/json">{text}</script></div>'


def raw(text: str) -> str:
    "HTML for pandoc to pass on."
    return fenced(text, "{=html}")


def fenced(text: str, kind: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence} {kind}\n{text}\n{fence}"


def numbered(markdown: str) -> str:
    r"Display maths with its \tag behind it: pandoc's MathML has no equation numbers."

    def moved(match: re.Match) -> str:
        tag = re.search(r"\\tag\{([^{}]*)\}", match[1])
        return f"$${match[1].replace(tag[0], '')}$$" + MARK.format(tag[1]) if tag else match[0]

    return re.sub(r"\$\$(.+?)\$\$", moved, markdown, flags=re.DOTALL)
