"""The builder of the site in its parts; tests/test_browser.py looks at what comes out."""

import base64
import dataclasses
import html
import importlib
import json
import re
import shutil
import struct
import subprocess

import pytest
import site_api
import site_builder
import site_html
import site_pages
import yaml
from notebooks import ROOT, WIDGET_STATE, WIDGET_VIEW, page_key, read
from site_api import Definition, Lookup

# ---- a small notebook, processed by nbdev's rules ----

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 640, 480)
SOURCE = """@lru_cache
def area(r):
    "Area of a circle."

    def square(x):
        return x**2

    return square(r)


class Ring:
    def width(self):
        return 1


def _hidden():
    pass"""


def cell(kind: str, source: str, *outputs: dict) -> dict:
    return {"cell_type": kind, "source": source, "outputs": list(outputs), "metadata": {}}


def shown(**data) -> dict:
    return {"output_type": "display_data", "data": data}


def stream(text: str) -> dict:
    return {"output_type": "stream", "name": "stdout", "text": text}


def page(*cells: dict, **models) -> site_pages.Page:
    head = [
        cell("raw", "---\ntitle: Circles\ndescription: About circles.\n---\n"),
        cell("markdown", "<!-- do not edit -->"),
    ]
    metadata = {"widgets": {WIDGET_STATE: {"state": models}}}
    return site_pages.page_of("07_circles.ipynb", {"cells": [*head, *cells], "metadata": metadata})


def test_front_matter_and_file():
    made = page()
    assert (made.title, made.description, made.file) == ("Circles", "About circles.", "circles.html")
    assert [site_api.html_name(n) for n in ("12ca_vectors.ipynb", "index.ipynb", "api.qmd")] == [
        "vectors.html",
        "index.html",
        "api.html",
    ]


def test_exported_definitions_get_places_and_others_do_not():
    shows = [cell("code", f"#| output: asis\nshow_doc({name})") for name in ("area", "Ring")]
    text = page(cell("code", SOURCE), *shows).body
    assert re.findall(r'id="([^"]*)"', text) == ["area", "ring", "ring.width"]
    assert '<span class="here" id="area"></span><span class="d">@lru_cache</span>' in text, "from the decorator on"
    assert "show_doc" not in text and "id=" not in page(cell("code", SOURCE)).body
    assert site_api.places(SOURCE) == {1: ["area"], 11: ["ring"], 12: ["ring.width"], 16: ["_hidden"]}


def test_flags_of_cells():
    body = page(cell("code", "#| hide\nsecret()"), cell("code", "#| echo: false\nplot()", stream("drawn"))).body
    assert "secret" not in body and "plot" not in body and "drawn" in body
    assert "#|" not in page(cell("code", "#| eval: false\nx = 1")).body


@pytest.mark.parametrize(
    "output, expected",
    [
        (stream("a < b\n"), '<pre class="output">a &lt; b</pre>'),
        (shown(**{"text/plain": "plain", "text/markdown": "**rich**"}), "**rich**"),
        (shown(**{"text/plain": "plain", "text/html": "<b>rich</b>"}), '<div class="scroll"><b>rich</b></div>'),
        (shown(**{"text/latex": "$$x \\tag{1}$$"}), "$$x $$\ue0001\ue001"),
        (stream(""), ""),
    ],
)
def test_outputs_in_their_richest_form(output, expected):
    body = page(cell("code", "#| echo: false\nf()", output)).body
    assert expected in body and "plain" not in body


def test_pictures_are_written_beside_the_page():
    content = base64.b64encode(PNG).decode()
    made = page(cell("code", "plot()", shown(**{"image/png": content}), shown(**{"image/png": [content]})))
    assert made.pictures == {"images/circles-1.png": PNG, "images/circles-2.png": PNG}
    assert '<img src="images/circles-2.png" alt="Figure 2 of the page Circles" />' in made.body


def test_pictures_are_described_by_what_stands_above_them():
    content = shown(**{"image/png": base64.b64encode(PNG).decode()})
    text = '## How *round*\n\nThe [dashed](x.html) line `is` "it". Else nothing.\n\nNot 1.'
    body = page(cell("markdown", text), cell("code", "plot()", content), cell("code", "plot()", content)).body
    assert body.count("of the page Circles – How round – The dashed line is &quot;it&quot;.") == 2
    assert site_pages.about_the_picture("The curve is $x$.") == "", "formulas cannot be read aloud"


def test_an_empty_figure_is_refused():
    with pytest.raises(SystemExit, match="07_circles.ipynb shows <Figure size 7x3 with 0 Axes>"):
        page(cell("code", "plot()", shown(**{"text/plain": "<Figure size 7x3 with 0 Axes>"})))


def test_a_printed_table_becomes_one():
    text = "Found:\nclaim · verdict\n----- · -------\na < b · 1e-13 holds\n\nend"
    row = '<tr><td>a &lt; b</td><td><span class="unbroken">1e-13</span> holds</td></tr>'
    table = f"<table><thead><tr><th>claim</th><th>verdict</th></tr></thead><tbody>{row}</tbody></table>"
    before, after = ('<pre class="output">Found:</pre>', '<pre class="output">end</pre>')
    assert site_pages.printed(text) == f'{before}<div class="printed">{table}</div>{after}'
    assert "<table>" not in site_pages.printed("a · b\n\n---\nc")


def test_long_lines_are_wrapped_and_wide_ones_set_smaller():
    assert site_pages.printed("x" * 78) == f'<pre class="output">{"x" * 78}</pre>'
    assert 'style="--columns: 79"' in site_pages.printed("x" * 79)
    assert site_pages.printed("x" * 100) == f'<pre class="output" style="--columns: 100">{"x" * 100}</pre>'
    long = f"{'x' * 101}\n  <y>"
    assert (
        site_pages.printed(long)
        == f'<pre class="output wrapped"><span>{"x" * 101}\n</span><span>  &lt;y&gt;\n</span></pre>'
    )


def test_sliders_show_their_saved_frame_and_explorers_are_live():
    view = lambda name: cell("code", "#| echo: false\nw", shown(**{WIDGET_VIEW: {"model_id": name}}))
    frame = {"state": {"outputs": [stream("the frame")]}}
    box = {"state": {"children": ["IPY_MODEL_frame", "IPY_MODEL_slider"]}}
    slider = {"model_module": "@jupyter-widgets/controls", "state": {"value": 1}}
    explorer = {"model_module": "anywidget", "state": {"_esm": "export default {}; // </script>", "x": 3}}
    still = page(view("box"), box=box, frame=frame, slider=slider).body
    assert "the frame" in still and "`make lab`" in still and "anywidget" not in still
    for name, models in (
        ("e", {"e": explorer}),
        ("box", {"box": {"state": {"children": ["IPY_MODEL_e"]}}, "e": explorer}),
    ):
        live = page(view(name), **models).body
        found = re.search(r'<div class="anywidget"><script type="application/json">(.*)</script></div>', live)
        assert json.loads(found[1]) == {"state": explorer["state"], "buffers": []}
        assert "</script>" not in found[1] and "make lab" not in live


def test_nbdev_processes_a_page_without_running_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it finds its settings from anywhere
    nb = site_pages.processed(ROOT / "nbs" / "21_ksupport.ipynb")
    made = site_pages.page_of("21_ksupport.ipynb", nb)
    assert made.title == "The k-support norm" and made.description.endswith(".")
    assert not any(c["outputs"] for c in nb["cells"] if c["cell_type"] == "code" and "show_doc(" in c["source"])
    assert 'id="prox_ksupport"' in made.body and "#| export" not in made.body and len(made.pictures) >= 1


# ---- names ----


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    "A package of two modules as nbdev exports it."
    root = tmp_path_factory.mktemp("root")
    folder = root / "adaptive_dropout"
    (folder / "nn").mkdir(parents=True)
    (folder / "__init__.py").write_text('_names = {"nn.all_shapes": "area Ring"}\n')
    (folder / "_modidx.py").write_text("d = {}\n")
    (folder / "circles.py").write_text(f"# %% auto 0\n\n# %% ../nbs/07_circles.ipynb #1\n{SOURCE}\n")
    (folder / "nn" / "all_shapes.py").write_text(
        "# %% ../../nbs/08_all_shapes.ipynb #1\nfrom adaptive_dropout.circles import Ring, area\n\n"
        "# %% ../../nbs/08_all_shapes.ipynb #2\ndef area_of(x):\n    '''One\n    line.\n\n    More.'''\n"
        "# %% ../../nbs/09_more.ipynb #3\nclass More:\n    pass\n"
    )
    return root


def test_definitions_are_read_from_the_source(package):
    found = {d.name: d for d in site_api.definitions(package)}
    area = Definition("circles", "area", "circles.html#area", "Area of a circle.", top=True)
    assert found["area"] == area and area.page == "circles.html" and area.public
    assert found["Ring"].top and found["Ring.width"].target == "circles.html#ring.width"
    assert found["area_of"].summary == "One line." and not found["area_of"].top
    assert found["area_of"].module == "nn.all_shapes" and found["area_of"].page == "all_shapes.html"
    assert found["More"].page == "more.html" and not found["_hidden"].public


def test_names_in_prose_are_found(package):
    names = Lookup(site_api.definitions(package))
    for text in ("area", "area(r)", "circles.area", "adaptive_dropout.circles.area", "area()"):
        assert names.target(text, "x.html") == "circles.html#area"
    assert names.target("Ring.width", "circles.html") == "#ring.width"
    for text in ("_hidden", "areas", "area + 1", "area of", "(area)", ""):
        assert names.target(text, "x.html") is None


def test_a_name_that_two_pages_define_leads_to_the_nearer_one():
    one, two = (Definition(m, "fit", f"{m}.html#fit", "", top=False) for m in ("a", "b"))
    assert Lookup([one, two]).target("fit", "b.html") == "#fit"
    assert Lookup([one, two]).target("fit", "c.html") is None
    assert Lookup([one, dataclasses.replace(two, top=True)]).target("fit", "c.html") == "b.html#fit"
    assert Lookup([one, two]).target("a.fit", "c.html") == "a.html#fit"
    assert Lookup([one]).target("fit", "c.html") is None, "an ordinary word"
    assert Lookup([one]).target("a.fit()", "c.html") == Lookup([one]).target("a.fit", "c.html") == "a.html#fit"
    assert Lookup([Definition("a", "fit_all", "a.html#fit_all", "", False)]).target("fit_all", "c.html")


def test_the_page_of_names(package):
    sources = {
        "circles.html": "07_circles.ipynb",
        "all_shapes.html": "08_all_shapes.ipynb",
        "more.html": "09_more.ipynb",
    }
    titles = {"circles.html": "Circles", "all_shapes.html": "All *shapes*"}
    text = site_api.api_page(site_api.definitions(package), sources, titles)
    assert text.index("## circles") < text.index("## nn.all_shapes")
    assert "| **[`area`](07_circles.ipynb#area)** | Area of a circle. |" in text
    assert "| [`area_of`](08_all_shapes.ipynb#area_of) | One line. |" in text
    assert "_hidden" not in text and "width" not in text and r"All \*shapes\*" in text
    assert site_api._plain("a|b `c|d` w**2") == r"a\|b `c\|d` w\*\*2"


def test_every_public_name_is_documented_on_its_page():
    import adaptive_dropout

    known = site_api.definitions()
    assert {d.name for d in known if d.top} >= set(adaptive_dropout._home)
    assert not [d.name for d in known if d.top and not d.summary and "." not in d.name]


def test_nbdev_can_show_every_definition():
    "Quarto's build does this for each; here is no Quarto."
    from nbdev.showdoc import show_doc

    for item in site_api.definitions():
        if item.public and "." not in item.name:
            module = importlib.import_module(f"adaptive_dropout.{item.module}")
            assert item.name in show_doc(getattr(module, item.name))._repr_markdown_()


# ---- HTML ----

NAMES = Lookup([Definition("circles", "area", "circles.html#area", "", True)])


def test_code_is_coloured_and_escaped():
    block = site_html.code_block('def f(x):  # "no"\n    return x < 1', anchors={1: ["f"]})
    assert '<span class="k">def</span>' in block and '<span class="f">f</span>' in block
    assert '<span class="c"># &quot;no&quot;</span>' in block and "x &lt; <" in block
    assert '<code class="python"><span class="here" id="f"></span>' in block
    assert html.unescape(re.sub("<[^>]*>", "", block)) == 'def f(x):  # "no"\n    return x < 1'
    assert site_html.code_of_prose("<pre><code>a &lt; b\n</code></pre>") == site_html.code_block("a < b", "text")
    assert 'class="bash"' in site_html.code_of_prose('<pre class="bash"><code>ls</code></pre>')


def test_imports_lead_to_definitions():
    source = "from adaptive_dropout.circles import area, other\nfrom elsewhere import area\narea(1)"
    text = site_html.linked_imports(site_html.code_block(source), NAMES, "x.html")
    assert text.count("<a href") == 1 and 'import</span> <a href="circles.html#area">area</a>, other' in text
    many = site_html.code_block("from adaptive_dropout.circles import (\n    area,\n    other,\n)")
    assert '    <a href="circles.html#area">area</a>,' in site_html.linked_imports(many, NAMES, "x.html")


def test_code_spans_lead_to_definitions_but_not_inside_links_code_and_headings():
    link = '<a class="name" href="circles.html#area"><code>area</code></a>'
    assert site_html.linked_names("<p><code>area</code></p>", NAMES, "x.html") == f"<p>{link}</p>"
    for kept in ('<a href="y"><code>area</code></a>', "<h2><code>area</code></h2>", "<pre><code>area</code></pre>"):
        assert site_html.linked_names(kept, NAMES, "x.html") == kept


def test_tags_are_moved_behind_their_formulas():
    assert site_pages.numbered("$$a=b.\\tag{3}$$ and $c$") == "$$a=b.$$\ue0003\ue001 and $c$"
    assert page(cell("markdown", "$$a\\tag{1}$$")).body == "$$a$$\ue0001\ue001"
    assert site_pages.numbered("$$a$$ $$b\\tag{T7}$$") == "$$a$$ $$b$$\ue000T7\ue001"


DISPLAY = '<math display="block"><mi>a</mi></math>'


def test_equations_are_framed_numbered_and_referred_to():
    body = f"<p>{DISPLAY}\ue0003\ue001 {DISPLAY}</p><p>By (3), f(3), eq. (3), eq.\n(3), (4), <code>(3)</code>.</p>"
    made = site_html.equations(body)
    assert made.count('class="equation"') == made.count('class="formula"') == 2
    assert 'id="eq-3"' in made and '<a class="number" href="#eq-3">(3)</a>' in made
    assert 'By <a href="#eq-3">(3)</a>, f(3), eq. (3), eq.\n(3), (4), <code>(3)</code>.' in made
    twice = site_html.equations(f"{DISPLAY}\ue0003\ue001{DISPLAY}\ue0003\ue001")
    assert twice.count('id="eq-3"') == 1 and twice.count('href="#eq-3"') == 2
    words = site_html.equations(f"{DISPLAY}\ue000LeJeune et al., eq. 8\ue001 (LeJeune et al., eq. 8)")
    assert 'id="eq-lejeune-et-al-eq-8"' in words and words.count("<a ") == 1
    assert '<mo class="prime">′</mo></msup>' in site_html.equations("<msup><mi>f</mi><mo>′</mo></msup>")


def test_no_line_begins_with_a_comma():
    formula = '<math display="inline"><mi>a</mi></math>'
    made = site_html.unbroken(f"{formula} and {formula}, then {formula}")
    assert made == f'{formula} and <span class="unbroken">{formula},</span> then {formula}'


def test_tables_scroll():
    made = site_html.tables(
        '<table style="width:100%;"><colgroup>\n<col style="width: 9%" /></colgroup><tr></tr></table>'
    )
    assert made == '<div class="scroll"><table><tr></tr></table></div>'


def test_pictures_announce_their_size():
    made = site_html.sized('<img src="a.png" alt="" /><img src="b.png" />', {"a.png": PNG})
    assert made == '<img src="a.png" width="640" height="480" alt="" /><img src="b.png" />'


def test_no_id_stands_twice():
    place = '<span class="here" id="{}"></span>'.format
    body = f'<h2 id="area">A</h2>{place("area")}{place("ring")}{place("ring")}'
    assert site_html.single_ids(body) == f'<h2 id="area">A</h2>{place("ring")}'


def test_sections_for_the_search():
    formula = "<math><semantics><mi>w</mi><mo>&gt;</mo><mn>0</mn><annotation>w&gt;0</annotation></semantics></math>"
    body = (
        f'<p>First.</p><h2 id="b">B <a class="anchor" href="#b">#</a></h2><p>For {formula}</p><pre>no</pre><p>end.</p>'
    )
    assert site_html.sections(body) == [("", "", "First."), ("b", "B", "For w>0 end.")]
    fraction = formula.replace("<mo>", "<mfrac></mfrac><mo>")
    assert site_html.plain(f"a {fraction} b") == "a … b"


def rendered(tmp_path, markdown: str) -> site_builder.Rendered:
    (tmp_path / "images").mkdir(exist_ok=True)
    (tmp_path / "pandoc.template").write_text(f"$toc$\n{site_html.SPLIT}\n$body$")
    values = {"git_url": "", "branch": "main"}
    common = site_builder.Common(tmp_path, {"02_noise.ipynb": "noise.html"}, values, NAMES)
    return site_builder.render(common, site_pages.Page("07_circles.ipynb", "Circles", "About.", markdown))


def test_a_page_from_markdown_to_html(tmp_path):
    table = "| $w$ | b |\n|---|---|\n| 1 | 2 |\n"
    text = "See [it](02_noise.ipynb#x) and `area`.\n\n## A part\n\n$$a=b \\tag{1}$$\n\n" + table
    code = "\n```python\nfrom adaptive_dropout.circles import area\n```\n"
    made = rendered(tmp_path, site_pages.numbered(text) + code)
    assert '<span class="k">import</span> <a href="#area">area</a>' in made.body
    assert '<a href="#a-part"' in made.toc and '<h2 id="a-part">A part <a class="anchor"' in made.body
    assert 'href="noise.html#x"' in made.body and 'href="circles.html#area"' not in made.body
    assert 'href="#area"' in made.body, "on the page itself the link is short"
    assert 'id="eq-1"' in made.body and "<math" in made.body and '<div class="scroll"' in made.body


def test_what_pandoc_warns_of_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="07_circles.ipynb: pandoc says"):
        rendered(tmp_path, r"$\undefinedcommand{x}$")


# ---- around the pages ----

CONTENTS = [
    "index.ipynb",
    {"section": "A & B", "contents": ["01_a.ipynb", {"section": "Inner", "contents": ["02_b.ipynb"]}]},
]
PAGE = '<span class="page">{}</span> '.format
TITLES = {"index.ipynb": ("index.html", "Home"), "01_a.ipynb": ("a.html", "a < b"), "02_b.ipynb": ("b.html", "Last")}


def test_the_sidebar_opens_where_the_reader_is():
    made = site_builder.sidebar(CONTENTS, TITLES, "b.html")
    assert (
        made.count("<details open>") == 2 and '<a href="b.html" aria-current="page">' + PAGE("02") + "Last</a>" in made
    )
    assert '<a href="index.html">Home</a>' in made and "moves here" not in made
    live = site_builder.sidebar(CONTENTS, TITLES, "b.html", frozenset(["01_a.ipynb"]))
    assert 'a &lt; b <span class="live">' in live and live.count('"live"') == 1
    assert "A &amp; B" in made and "a &lt; b" in made
    assert "open" not in site_builder.sidebar(CONTENTS, TITLES, "index.html")


def test_the_neighbours_follow_the_sidebar():
    order = site_builder.entries(CONTENTS)
    assert order == ["index.ipynb", "01_a.ipynb", "02_b.ipynb"]
    middle = site_builder.neighbours(order, TITLES, "01_a.ipynb")
    assert f"<small>Next</small>{PAGE('02')}Last" in middle and "<small>Before</small>Home" in middle
    assert 'rel="prev" href="index.html"' in middle and 'rel="next" href="b.html"' in middle
    assert "prev" not in site_builder.neighbours(order, TITLES, "index.ipynb")
    assert "next" not in site_builder.neighbours(order, TITLES, "02_b.ipynb")


def test_pages_open_elsewhere_once_there_is_an_address():
    values = {"git_url": "https://github.com/o/r", "branch": "main"}
    made = site_builder.open_elsewhere("01_a.ipynb", values)
    for address in (
        "https://github.com/o/r/blob/main/nbs/01_a.ipynb",
        "https://colab.research.google.com/github/o/r/blob/main/nbs/01_a.ipynb",
        "https://mybinder.org/v2/gh/o/r/main?labpath=nbs/01_a.ipynb",
    ):
        assert f'"{address}"' in made
    assert not site_builder.open_elsewhere("01_a.ipynb", values | {"git_url": ""})
    assert not site_builder.open_elsewhere("api.qmd", values)
    assert "colab" not in site_builder.open_elsewhere("01_a.ipynb", values | {"git_url": "https://host/o/r"})


@pytest.mark.parametrize("host, base", [("", ""), ("https://docs.host", "/ad/")])
def test_what_the_pages_share_is_written(tmp_path, host, base):
    body = '<p>Words.</p><div class="anywidget"></div>'
    page = site_builder.Rendered("02_b.ipynb", "b.html", "Last & least", 'A "b".', "<ul></ul>", body)
    values = {"git_url": "", "branch": "main", "doc_host": host, "doc_baseurl": base}
    others = [dataclasses.replace(page, source=s, file=f, body="") for s, (f, _) in TITLES.items() if s != page.source]
    common = site_builder.Common(tmp_path, {}, values, NAMES)
    site_builder.written([page, *others], {"title": "Site", "sidebar": {"contents": CONTENTS}}, common)
    text = (tmp_path / "b.html").read_text()
    assert "<title>02 Last &amp; least – Site</title>" in text and f"<h1>{PAGE('02')}Last &amp; least</h1>" in text
    assert text.count('<span class="live">') == 1 and 'content="A &quot;b&quot;."' in text
    assert "{{" not in text and "<p>Words.</p>" in text
    assert '["b.html","02 Last & least","","A \\"b\\". Words."]' in (tmp_path / "search_index.js").read_text()
    for asset in ("style.css", "site.js", "anywidget_host.js", "stix-two-math.woff"):
        assert (tmp_path / asset).is_file()
    map_of_site = tmp_path / "sitemap.xml"
    assert map_of_site.exists() == bool(host)
    assert not host or "<loc>https://docs.host/ad/b.html</loc>" in map_of_site.read_text()


def test_the_sidebar_has_every_page_in_the_order_of_the_numbers():
    "Sections stand in an order of their own; what is in a section, and in the sections inside, goes by number."
    contents = site_builder.website()["sidebar"]["contents"]
    listed = site_builder.entries(contents)
    assert sorted(listed) == sorted([path.name for path in site_builder.all_pages()] + list(site_builder.GENERATED))
    for section in contents:
        pages = [name for name in site_builder.entries([section]) if site_api.page_number(name)]
        assert pages == sorted(pages, key=page_key), section["section"]
    assert listed[:2] == ["index.ipynb", "00_notation.ipynb"]
    assert listed.index("50_data.ipynb") + 1 == listed.index("50a_stacked.ipynb")


def test_links_are_relative_and_need_no_anchor(tmp_path):
    (tmp_path / "a.html").write_text(f'<a href="b.html">1</a><a href="{tmp_path}/b.html">2</a><p>id="not-a-place"</p>')
    (tmp_path / "b.html").write_text('<a href="a.html">3</a><a href="#">4</a><a href="a.html#not-a-place">5</a>')
    assert sorted(site_builder.dead_links(tmp_path)) == [f"a.html: {tmp_path}/b.html", "b.html: a.html#not-a-place"]


def test_a_sidebar_with_an_unknown_page_is_refused(tmp_path, monkeypatch):
    (tmp_path / "_quarto.yml").write_text("website: {sidebar: {contents: [index.ipynb, ghost.ipynb]}}")
    monkeypatch.setattr(site_builder, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="not there: ghost.ipynb"):
        site_builder.website()


def test_nothing_on_the_site_comes_from_elsewhere():
    "Addresses in scripts and styles are names or comments; pages may link to papers."
    assets = [
        p for p in [*site_builder.ASSETS.iterdir(), site_builder.TEMPLATE] if p.suffix in (".css", ".js", ".html")
    ]
    for path in assets:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//\w+\.\w", text), path.name


# ---- workflows ----


def workflow(name: str) -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))


def steps(job: dict) -> str:
    return "\n".join(f"{step.get('uses', '')} {step.get('with', '')} {step.get('run', '')}" for step in job["steps"])


def test_every_workflow_is_complete():
    found = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [path.stem for path in found] == ["release", "site", "tests"]
    for path in found:
        made = workflow(path.stem)
        assert made["name"] == path.stem and True in made, "YAML reads `on` as true"
        assert made["permissions"] == {"contents": "read"}, "more is given to single jobs only"
        for job in made["jobs"].values():
            assert job["runs-on"].startswith("ubuntu-") and job["timeout-minutes"] <= 60
            for step in job["steps"]:
                assert bool(step.get("uses")) != bool(step.get("run"))
                assert re.fullmatch(r"[\w-]+/[\w-]+(/[\w-]+)?@\S+", step.get("uses", "a/b@v1"))
            assert set(job.get("needs", [])) <= set(made["jobs"])


def test_the_tests_run_on_every_supported_python_with_a_browser():
    job = workflow("tests")["jobs"]["tests"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert ".ci/run" in steps(job)


def test_the_site_is_built_by_the_pinned_quarto_and_deployed_from_main_only():
    made = workflow("site")
    text = steps(made["jobs"]["build"])
    assert "'version': '1.9.38'" in text and "tools/site_builder.py --quarto" in text and "_docs" in text
    deploy = made["jobs"]["deploy"]
    assert deploy["permissions"] == {"pages": "write", "id-token": "write"} and deploy["needs"] == ["build"]
    assert "refs/heads/main" in deploy["if"]


def test_a_release_needs_a_tag_that_is_the_version_and_no_secret():
    made = workflow("release")
    assert made[True] == {"push": {"tags": ["v*"]}}
    text = steps(made["jobs"]["build"])
    assert "settings.ini" in text and "GITHUB_REF_NAME" in text and "twine" not in text
    publish = made["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"} and publish["environment"]["name"] == "pypi"
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "apt, said", [("echo apt-get $*", "apt-get install"), ("exit 1", "Install Chromium"), (None, "")]
)
def test_the_ci_script_gets_a_browser_where_there_is_none(apt, said, tmp_path):
    "With stand-ins for the programs that it calls; without one for apt-get a browser is there."
    programs = (
        {"make": "echo make $*", "id": "echo 0", "apt-get": apt} if apt else {"make": "echo make $*", "chromium": ""}
    )
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "dirname").symlink_to(shutil.which("dirname"))
    command = [shutil.which("sh"), ROOT / ".ci" / "run"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "make test"
    assert said in done.stdout + done.stderr and bool(apt) == ("missing" in done.stdout)


class FakeQuarto:
    "Stands in for `subprocess.run`: Quarto as it prints and exits."

    def __init__(self, log: str, status: int, processed):
        self.log, self.status, self.processed, self.commands = log, status, processed, []

    def __call__(self, command, **options):
        self.commands.append(command)
        (self.processed / "_docs").mkdir(exist_ok=True)
        (self.processed / "_docs" / "index.html").write_text("made")
        return subprocess.CompletedProcess(command, self.status, self.log)


def write_processed(folder):
    "What nbdev leaves of a page with a number and of one without."
    folder.mkdir()
    for name, title in (("12ca_vectors", "'Of: vectors'"), ("index", "Home")):
        cells = [cell("raw", f"---\ndescription: A.\ntitle: {title}\n\n---\n\n"), cell("markdown", "Text.")]
        (folder / f"{name}.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}}))


@pytest.mark.parametrize(
    "log, status, works", [("fine", 0, True), ("WARN: Unable to resolve", 0, False), ("x", 1, False)]
)
def test_a_warning_of_quarto_fails_the_build(log, status, works, tmp_path, monkeypatch, capsys):
    import nbdev.quarto
    import nbdev.serve

    processed = tmp_path / "_proc"
    quarto = FakeQuarto(log, status, processed)
    monkeypatch.setattr(site_builder, "PROCESSED", processed)
    monkeypatch.setattr(site_builder, "SITE", tmp_path / "_docs")
    monkeypatch.setattr(nbdev.quarto, "refresh_quarto_yml", lambda: None)
    monkeypatch.setattr(nbdev.serve, "proc_nbs", lambda folder: write_processed(processed))
    monkeypatch.setattr(site_builder.subprocess, "run", quarto)
    if works:
        site_builder.build_by_quarto()
        assert (tmp_path / "_docs" / "index.html").read_text() == "made"
    else:
        with pytest.raises(SystemExit, match="quarto: status"):
            site_builder.build_by_quarto()
        assert not (tmp_path / "_docs").exists()
    assert quarto.commands[-1][:2] == ["quarto", "render"]
    for name, title in (("12ca_vectors", "12ca Of: vectors"), ("index", "Home")):
        source = read(processed / f"{name}.ipynb")["cells"][0]["source"]
        assert source.startswith("---\n") and source.endswith("\n---\n\n")
        assert yaml.safe_load(source.split("---")[1]) == {"title": title, "description": "A."}
    for name in site_builder.GENERATED:
        front = yaml.safe_load((processed / name).read_text(encoding="utf-8").split("---")[1])
        assert front == dict(zip(("title", "description"), site_builder.GENERATED[name], strict=True))
