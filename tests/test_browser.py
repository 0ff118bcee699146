"""The site in a real browser: every page in three modes, and what the reader does with it.

One browser looks at all pages; each is asked once, by one function of JavaScript, for everything that is wrong with it.
"""

import functools
import http.server
import re
import threading

import pytest
import site_builder
from notebooks import ROOT

pytestmark = pytest.mark.browser
MODES = {
    "desktop": {"viewport": {"width": 1400, "height": 900}},
    "dark": {"viewport": {"width": 1400, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True},
}


SCRIPTS = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "browser").glob("*.js")}
LOOK, STYLE, CONTRAST, WIDGET = (SCRIPTS[name] for name in ("look", "style", "contrast", "widget"))


def newest(paths) -> float:
    return max(path.stat().st_mtime for path in paths)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    "The site that stage `site` has built, if nothing has changed since; else one built for the tests."
    made = site_builder.SITE / "search_index.js"
    tools = [path for path in (ROOT / "tools").rglob("*.*") if path.suffix != ".pyc"]
    package = (ROOT / "adaptive_dropout").rglob("*.py")
    sources = [*site_builder.all_pages(), *package, *tools, ROOT / "_quarto.yml", ROOT / "CHANGELOG.md"]
    if made.exists() and made.stat().st_mtime > newest(sources):
        return site_builder.SITE
    built = tmp_path_factory.mktemp("site") / "site"
    site_builder.build(built)
    return built


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *ignored):
        pass


@pytest.fixture(scope="session")
def address(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


class Tab:
    """A page of the browser that lets nothing through to other hosts and remembers what went wrong."""

    def __init__(self, browser, address: str, **mode):
        self.address, self.wrong = address, []
        self.context = browser.new_context(**mode)
        self.context.route(lambda url: not url.startswith((address, "data:", "blob:")), self.refuse)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.note(message.text))
        self.page.on("pageerror", lambda error: self.note(str(error)))
        self.page.on("response", lambda answer: answer.status >= 400 and self.note(f"{answer.status} {answer.url}"))

    def refuse(self, route):
        self.note(f"asks for {route.request.url}")
        route.abort()

    def note(self, text: str) -> None:
        self.wrong.append(f"{self.page.url.rpartition('/')[2]}: {text}")

    def open(self, name: str):
        self.page.goto(self.address + name, wait_until="domcontentloaded")
        return self.page


@pytest.fixture
def tab(browser, address):
    "Opens a tab in the mode that is asked for."
    opened = []

    def make(mode: str = "desktop", **more) -> Tab:
        opened.append(Tab(browser, address, **(MODES[mode] | more)))
        return opened[-1]

    yield make
    for one in opened:
        one.context.close()
        assert not one.wrong, "\n".join(one.wrong)


# ---- every page ----


@pytest.mark.parametrize("mode", ["desktop", "phone"])
def test_every_page(mode, tab, folder):
    "On the desktop in light and dark, where all text must be readable; and on a phone."
    here, complaints, ids, links = tab(mode), [], {}, {}
    names = sorted(path.name for path in folder.glob("*.html"))
    for name in names:
        page = here.open(name)
        seen = page.evaluate(LOOK)
        complaints += [f"{name}: {wrong}" for wrong in seen["wrong"]]
        ids[name], links[name] = set(seen["ids"]), {tuple(link) for link in seen["links"]}
        if mode == "desktop":
            complaints += [f"{name}: contrast {row}" for row in in_both_lights(page) if row[1] < 4.5]
    for name in names:
        dead = [f"{file}#{place}" for file, place in links[name] if place not in ids.get(file, ()) and place]
        dead += [file for file, _ in links[name] if file not in ids]
        complaints += [f"{name}: dead link {target}" for target in sorted(dead)]
    assert len(names) > 50
    assert not complaints, "\n" + "\n".join(complaints)


def in_both_lights(page) -> list:
    "Contrasts as the page is and in the other colour scheme, in which it is left: the next page begins there."
    found = page.evaluate(CONTRAST)
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.emulate_media(color_scheme="light" if dark else "dark")
    assert page.evaluate(STYLE, "body")["backgroundColor"] == ("rgb(255, 255, 255)" if dark else "rgb(21, 25, 29)")
    return found + page.evaluate(CONTRAST)


# ---- how it looks ----


def test_navigation_is_styled(tab):
    page = tab().open("ksupport.html")
    style = functools.partial(page.evaluate, STYLE)
    assert style("header")["position"] == "sticky" and style(".side")["position"] == "sticky"
    assert style(".layout")["display"] == "grid" and style(".side ul")["listStyleType"] == "none"
    link, current = style(".side a:not([aria-current])"), style(".side a[aria-current]")
    assert link["textDecorationLine"] == "none" and link["color"] != current["color"]
    assert int(current["fontWeight"]) >= 600
    assert style("main p a:not(.name)")["textDecorationLine"] == "underline"
    assert style("main p a:not(.name)")["color"] == current["color"], "one accent"
    assert style(".formula")["overflowX"] == "auto" and style("pre")["overflowX"] == "auto"
    assert style("pre")["backgroundColor"] != style("body")["backgroundColor"]
    assert "STIX" in style("math")["fontFamily"]
    assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('16px \"STIX Two Math cut\"'))")
    boxes = [page.locator(query).bounding_box() for query in (".side", "main", ".toc")]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"] < boxes[2]["x"]


@pytest.mark.parametrize("mode", ["desktop", "dark"])
def test_what_the_search_finds_can_be_read(mode, tab):
    page = tab(mode).open("cli.html")
    page.keyboard.press("/")
    page.keyboard.type("penalty")
    page.wait_for_selector(".finder li a mark")
    found = page.evaluate(CONTRAST)
    assert any(what.startswith("mark") for what, _ in found)
    assert not [row for row in found if row[1] < 4.5]


def test_pictures_do_not_glare_in_the_dark(tab):
    dark = tab("dark").open("index.html")
    assert "brightness(0.8" in dark.evaluate(STYLE, "main img")["filter"]
    assert dark.evaluate(STYLE, "main img")["backgroundColor"] == "rgb(255, 255, 255)"
    assert tab().open("index.html").evaluate(STYLE, "main img")["filter"] == "none"


def test_paper_has_no_navigation(tab):
    page = tab().open("ksupport.html")
    page.emulate_media(media="print")
    for query in ("header", ".side", ".toc", ".copy"):
        assert not page.locator(query).first.is_visible()
    assert page.locator("main h1").is_visible()


# ---- what it does ----


def test_dark_mode_is_kept(tab):
    page = tab().open("index.html")
    ground = lambda: page.evaluate(STYLE, "body")["backgroundColor"]
    assert ground() == "rgb(255, 255, 255)"
    button = page.get_by_role("button", name="Dark mode")
    button.click()
    assert ground() == "rgb(21, 25, 29)" and button.get_attribute("aria-pressed") == "true"
    page.goto(page.url.replace("index", "ksupport"))
    assert ground() == "rgb(21, 25, 29)"
    page.get_by_role("button", name="Dark mode").click()
    page.reload()
    assert ground() == "rgb(255, 255, 255)"


def test_the_system_chooses_the_mode_and_the_button_overrides_it(tab):
    page = tab("dark").open("index.html")
    assert page.evaluate(STYLE, "body")["backgroundColor"] == "rgb(21, 25, 29)"
    page.get_by_role("button", name="Dark mode").click()
    assert page.evaluate(STYLE, "body")["backgroundColor"] == "rgb(255, 255, 255)"


@pytest.mark.parametrize(
    "words, target",
    [
        ("prox_ksupport", "ksupport.html#prox_ksupport"),  # a name of the package
        ("Notation and misprints", "notation.html"),  # a title
        ("soft threshold", "convex.html#l1"),  # words of prose
        ("logsum", "concave.html#logsum"),
    ],
)
def test_search_finds(words, target, tab):
    page = tab().open("index.html")
    page.keyboard.press("/")
    page.keyboard.type(words)
    page.wait_for_selector(".finder li a")
    found = [link.get_attribute("href") for link in page.locator(".finder li a").all()]
    assert target in found[:5]
    page.locator(f'.finder li a[href="{target}"]').first.click()
    page.wait_for_url(f"**/{target}")
    assert not page.locator(".finder").is_visible()


@pytest.mark.parametrize(
    "words, target",
    [
        ("12d", "penalties.html"),
        ("page 13b", "hard_concrete.html"),
        ("10", "tikhonov.html"),
        ("Tikhonov", "tikhonov.html"),
    ]
    + [("k-support", "ksupport.html"), ("claims of the duality paper", "duality_claims.html")],
)
def test_the_page_itself_is_found_first(words, target, tab):
    "By its number and by its title; pages of claims, whose sections repeat the titles, come after it."
    page = tab().open("index.html")
    page.keyboard.press("/")
    page.keyboard.type(words)
    page.wait_for_selector(".finder li a")
    found = [link.get_attribute("href") for link in page.locator(".finder li a").all()]
    assert found[0] == target
    last = max(k for k, address in enumerate(found) if address.startswith(target))
    claims = [k for k, address in enumerate(found) if "_claims.html#" in address and "claims" not in target]
    assert all(k > last for k in claims), "sections about claims repeat titles"


def test_search_by_keyboard(tab):
    page = tab().open("index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("prox_ksupport")
    page.wait_for_selector(".finder li a")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ksupport.html#prox_ksupport")
    page.keyboard.press("/")
    page.keyboard.type("hreshold")  # words are found by how they begin
    page.wait_for_selector(".finder .none")
    page.keyboard.press("Escape")
    page.locator(".finder").wait_for(state="hidden")


def test_code_is_copied(tab):
    page = tab(permissions=["clipboard-read", "clipboard-write"]).open("ksupport.html")
    block = page.locator(".code").first
    block.hover()
    block.get_by_role("button").click()
    block.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == block.locator("pre").text_content() and "import" in copied


def test_the_menu_of_a_phone(tab):
    page = tab("phone").open("ksupport.html")
    menu, side = page.get_by_role("button", name="Pages"), page.locator(".side")
    assert menu.is_visible() and not side.is_visible() and not page.locator(".toc").is_visible()
    menu.tap()
    assert side.is_visible() and menu.get_attribute("aria-expanded") == "true"
    assert side.bounding_box()["width"] == 390
    page.locator(".side a[aria-current]").tap()
    page.wait_for_load_state()
    assert not side.is_visible()


def test_a_name_leads_to_its_definition(tab):
    page = tab().open("api.html")
    page.locator('main td a[href="ksupport.html#prox_ksupport"]').click()
    page.wait_for_url("**/ksupport.html#prox_ksupport")
    line = page.evaluate("document.querySelector(':target').nextSibling.parentElement.textContent")
    assert "def prox_ksupport(" in line
    assert 0 < page.evaluate("document.querySelector(':target').getBoundingClientRect().top") < 900


def test_equations_are_numbered_and_referred_to(tab):
    page = tab().open("ksupport.html")
    number = page.locator("#eq-13 .number")
    assert number.text_content() == "(13)"
    formula = page.locator("#eq-13 math").bounding_box()
    assert number.bounding_box()["x"] > formula["x"] + formula["width"] - 1
    page.locator('main li a[href="#eq-13"]').first.click()
    assert page.url.endswith("#eq-13")


def test_a_site_without_a_server_works(browser, folder):
    tab = Tab(browser, folder.as_uri() + "/", **MODES["desktop"])
    page = tab.open("index.html")
    page.keyboard.press("/")
    page.keyboard.type("prox_ksupport")
    page.wait_for_selector(".finder li a")
    page.get_by_role("link", name=re.compile("^prox_ksupport")).first.click()
    page.wait_for_url("**/ksupport.html#prox_ksupport")
    tab.context.close()
    assert not tab.wrong


def test_verdicts_are_seen_without_scrolling(tab):
    here = tab(viewport={"width": 1280, "height": 900})
    for name in ("index.html", "reproduce.html"):
        page = here.open(name)
        head = page.locator(".printed thead th").last
        assert head.text_content() == "verdict"
        edges = [place.bounding_box() for place in (head, page.locator("main"))]
        assert edges[0]["x"] + edges[0]["width"] <= edges[1]["x"] + edges[1]["width"] + 1
    fits = "(place) => place.scrollWidth <= place.clientWidth"
    assert here.open("index.html").locator("main pre").first.evaluate(fits), "the first two commands"
    for name in ("duality_claims.html", "shrinkage_claims.html", "howto_compare.html", "comparison.html"):
        assert all(place.evaluate(fits) for place in here.open(name).locator("pre.output").all()), name


def test_the_explorers_come_before_the_code(tab):
    page = tab().open("explorers.html")
    page.wait_for_function("document.querySelectorAll('.anywidget[data-ready]').length === 2")
    code, panels = (page.locator(f"main {query}") for query in (".code", ".anywidget svg"))
    assert panels.last.bounding_box()["y"] < code.first.bounding_box()["y"]
    assert page.locator(".side a[aria-current] .live").count() == page.locator(".side .live").count() == 1
    assert page.locator(".anywidget svg").first.locator("text", has_text="LogSum(2)").count() == 1, "a legend at once"


def test_a_refused_rule_is_answered_below_the_text(tab):
    page = tab().open("explorers.html")
    page.wait_for_selector(".anywidget[data-ready]")
    page.locator('select[data-name="first"]').select_option("typed rule")
    rule, answer = page.locator('input[data-name="formula"]'), page.locator(".ad-words").first
    rule.fill("eta = 1/w")
    rule.press("Enter")
    assert answer.get_attribute("role") == "alert" and "eta decreases" in answer.text_content()
    below = answer.bounding_box()["y"] - rule.bounding_box()["y"] - rule.bounding_box()["height"]
    assert 0 <= below < 20


def test_an_explorer_is_live(tab, folder):
    from site_pages import live_widget

    state = {"_esm": WIDGET, "_css": "output { color: rgb(1, 2, 3); }", "x": 3}
    place = live_widget({"state": state, "buffers": [{"path": ["data"], "encoding": "base64", "data": "AQc="}]})
    here = tab()
    host = (folder / "anywidget_host.js").read_text(encoding="utf-8")
    document = f"<!doctype html><title>x</title>{place}<script>{host}</script>"
    here.context.route("**/live.html", lambda route: route.fulfill(content_type="text/html", body=document))
    page = here.open("live.html")
    page.wait_for_selector(".anywidget[data-ready]")
    assert page.locator("output").text_content() == "9 m 7"
    assert page.evaluate(STYLE, "output")["color"] == "rgb(1, 2, 3)"
    page.locator("input").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("output").text_content() == "16 m 7"


def test_every_explorer_of_the_site_starts(tab, folder):
    here = tab()
    for path in sorted(folder.glob("*.html")):
        count = path.read_text(encoding="utf-8").count('<div class="anywidget">')
        if count:
            page = here.open(path.name)
            page.wait_for_function("n => document.querySelectorAll('.anywidget[data-ready]').length === n", arg=count)
            heights = "[...document.querySelectorAll('.anywidget > div')].map((place) => place.offsetHeight)"
            assert min(page.evaluate(heights)) > 20
