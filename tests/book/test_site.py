"""The built book in a real browser, the network refused: what a reader meets, by mouse, by keyboard, on a phone."""

from __future__ import annotations

import functools
import json
import re
import zlib
from collections.abc import Callable
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from conftest import SITE, Visit
from ledger import Deviation

from mnv3lib import config, cost
from mnv3lib.explore.palette import KINDS

pytestmark = pytest.mark.browser

PAGES = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html") if "_static" not in path.parts)
CHAPTERS = [name for name in PAGES if name not in ("search.html", "genindex.html")]
NUMBERED = [name for name in CHAPTERS if re.match(r"\d\d_", name)]
ASKING = [name for name in NUMBERED if not name.startswith("00_")]  # the first chapter only shows
WIDGETS = [name for name in CHAPTERS if 'data-widget="explorer"' in (SITE / name).read_text(encoding="utf-8")]
FLIPBOOKS = [name for name in CHAPTERS if 'data-widget="flipbook"' in (SITE / name).read_text(encoding="utf-8")]
each_page = pytest.mark.parametrize("name", PAGES or ["index.html"])
each_widget_page = pytest.mark.parametrize("name", WIDGETS or ["index.html"])
each_flipbook_page = pytest.mark.parametrize("name", FLIPBOOKS or ["index.html"])

#: Four words in a row.
WORDS = re.compile(r"(?:[A-Za-z’,-]{2,} ){3}[A-Za-z]{2,}")
FIRST_PAGE_BYTES = 2_000_000
VARIANTS = {
    "large": config.large,
    "small": config.small,
    "large_minimalistic": config.large_minimalistic,
    "small_minimalistic": config.small_minimalistic,
}
Open = Callable[..., Visit]


@functools.cache
def parse(path: Path) -> BeautifulSoup:
    """Read a built page."""
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


# The page as text ----------------------------------------------------------------------------------------------------


def test_the_pages_are_those_of_the_table_of_contents(site: Path) -> None:
    toc = (site.parent.parent / "_toc.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^(?:root:|\s+- file:)\s*(\S+)", toc, flags=re.MULTILINE)
    assert {f"{name}.html" for name in listed} == set(CHAPTERS)


@each_page
def test_links_and_assets_resolve(site: Path, name: str) -> None:
    missing = []
    page = parse(site / name)
    names = functools.cache(lambda path: {e.get(key) for e in parse(path).find_all(True) for key in ("id", "name")})
    for tag, attribute in (("a", "href"), ("link", "href"), ("script", "src"), ("img", "src"), ("use", "href")):
        for element in page.find_all(tag, **{attribute: True}):
            target = urlsplit(str(element[attribute]))
            if target.scheme or target.netloc:
                continue
            path = (site / name).parent / unquote(target.path) if target.path else site / name
            anchored = target.fragment and path.suffix == ".html"
            if not path.is_file() or (anchored and unquote(target.fragment) not in names(path)):
                missing.append(str(element[attribute]))
    assert not missing


@each_page
def test_nothing_is_loaded_from_outside(site: Path, name: str) -> None:
    page = parse(site / name)
    loaders = [
        *(element["src"] for element in page.find_all(src=True)),
        *(element["href"] for element in page.find_all("link", href=True) if element.get("rel") != ["canonical"]),
    ]
    assert [address for address in loaders if re.match(r"(https?:)?//", str(address))] == []
    text = (site / name).read_text(encoding="utf-8")
    for host in ("cdn.jsdelivr.net", "cdnjs.", "unpkg.com", "googleapis.com", "gstatic.com", "use.fontawesome"):
        assert host not in text


def test_scripts_and_styles_name_no_cdn(site: Path) -> None:
    for path in [*site.rglob("*.css"), *site.rglob("*.js")]:
        if "mathjax" not in path.parts:  # MathJax knows the names of CDNs for parts that the book does not use
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"unpkg\.com|cdn\.jsdelivr|cdnjs\.|@import\s+(url\()?[\"']?https?:", text), path.name
            assert "sourceMappingURL" not in text, path.name


@each_page
def test_every_picture_has_words(site: Path, name: str) -> None:
    page = parse(site / name)
    for image in page.find_all("img"):
        decorative = image.find_parent(class_="navbar-brand")  # the logo beside the book's name
        assert image.get("alt", "").strip() or decorative, image
    for drawing in page.select("svg[role=img]"):
        assert drawing.get("aria-label") or drawing.find("title"), str(drawing)[:200]


def test_only_pages_with_equations_load_mathjax(site: Path) -> None:
    for name in PAGES:
        page = parse(site / name)
        loads = any("mathjax" in str(script["src"]) for script in page.find_all("script", src=True))
        assert loads == bool(page.select(".math")), name


# The page in a browser -----------------------------------------------------------------------------------------------


#: After what was set in motion: two frames, and the tasks that waited meanwhile.
SETTLED = "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))));"
#: Down the page and back, so that what loads late does: its width, and the equations that are wrong.
SCROLL = f"""async () => {{
  scrollTo({{top: 20_000, behavior: "instant"}});
  {SETTLED}
  const found = [document.documentElement.scrollWidth, document.querySelectorAll("mjx-merror, .MathJax_Error").length];
  scrollTo({{top: 0, behavior: "instant"}});
  return found;
}}"""
#: Open what is folded.
UNFOLD = f"""async () => {{
  for (const details of document.querySelectorAll("details")) details.open = true;
  {SETTLED}
  for (const fade of document.getAnimations()) fade.finish();
}}"""
#: The words in code that stand on two lines.
BREAKS = r"""() => {
  const broken = [];
  for (const code of document.querySelectorAll(".bd-article :is(code, dt) .pre")) {
    const walk = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    for (let node; (node = walk.nextNode()); ) {
      for (const word of node.data.matchAll(/\w+/g)) {
        const range = document.createRange();
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        const lines = new Set([...range.getClientRects()].filter((r) => r.width).map((r) => Math.round(r.top)));
        if (lines.size > 1) broken.push(word[0]);
      }
    }
  }
  return broken;
}"""
#: What scrolls sideways, and how its edge fades.
EDGES = """() => [...document.querySelectorAll('.bd-article *')].filter((e) => {
  const style = getComputedStyle(e);
  return ["auto", "scroll"].includes(style.overflowX) && e.clientWidth && e.scrollWidth > e.clientWidth + 1;
}).map((e) => [e.tagName + "." + e.className, getComputedStyle(e).maskImage])"""


@each_page
@pytest.mark.parametrize(("over", "scheme", "width"), [("http", "dark", 360), ("file", "light", 1280)])
def test_a_page_is_sound(visit: Open, served: str, site: Path, name: str, over: str, scheme: str, width: int) -> None:
    """Whatever only looks at a page looks at one visit of it, for a visit is most of the time that it takes."""
    seen = visit(f"{served}/{name}" if over == "http" else (site / name).as_uri(), scheme=scheme, width=width)
    found: dict[str, Any] = {}
    theme = seen.page.evaluate("document.documentElement.dataset.theme")
    found["another theme"] = theme != scheme and theme
    wide, wrong = seen.page.evaluate(SCROLL)
    found["wider than the screen"] = wide > width and wide
    found["wrong equations"] = wrong
    if name in CHAPTERS:
        found["names broken across lines"] = seen.page.evaluate(BREAKS)
    seen.page.evaluate(UNFOLD)
    if name in CHAPTERS:
        edges = seen.page.evaluate(EDGES)
        found["cut without a fade"] = [kind for kind, mask in edges if "linear-gradient" not in mask]
        cut = width == 360 and name in ("01_convolution_cost.html", "proof_ledger.html")
        found["nothing is cut, where there was"] = cut and not edges
    found["axe"] = axe(seen)
    found["asked of others"] = seen.outside
    found["errors"] = seen.errors
    assert {check: what for check, what in found.items() if what} == {}, f"{name}, {over}, {width} pixels, {scheme}"


def test_the_first_page_is_light(visit: Open, served: str, record_property: Callable[[str, object], None]) -> None:
    seen = visit(f"{served}/index.html")
    seen.page.wait_for_load_state("networkidle")
    total = sum(seen.transferred.values())
    record_property("measured", f"first page: {total:,} bytes, uncompressed, in {len(seen.transferred)} requests")
    assert len(seen.transferred) > 5
    assert total <= FIRST_PAGE_BYTES, sorted(seen.transferred.items(), key=lambda item: -item[1])[:8]


# What axe-core finds in the theme and we cannot repair without forking it: (rule, part of the selector, reason).
EXCUSED: list[tuple[str, str, str]] = []


#: How many of the pieces of code that look alike are asked about.
ALIKE = 3
#: Mark the further pieces of code whose letters and grounds are computed alike: thousands, of some twenty kinds. Axe
#: says nothing of the contrast of a single letter, so that none of these stands for a longer piece.
MARK_ALIKE = """most => {
  const grounds = new Map([[null, ""]]), times = new Map();
  const ground = (element) => {
    if (!grounds.has(element)) {
      const style = getComputedStyle(element);
      const own = [style.backgroundColor, style.backgroundImage, style.opacity, style.filter, style.mixBlendMode];
      grounds.set(element, [ground(element.parentElement), ...own].join());
    }
    return grounds.get(element);
  };
  for (const piece of document.querySelectorAll(":is(pre, code, dt.sig) span")) {
    if (!piece.checkVisibility({visibilityProperty: true})) continue;
    const style = getComputedStyle(piece), long = piece.textContent.trim().length > 1;
    const letters = [style.color, style.fontSize, style.fontWeight, style.textShadow, style.position];
    const look = [long, ...letters, ground(piece)].join();
    times.set(look, (times.get(look) ?? 0) + 1);
    piece.toggleAttribute("data-alike", times.get(look) > most);
  }
}"""
#: Preloading serves a rule of films and an experimental one; whether all text is in a landmark is a moderate matter.
AXE = """() => {
  axe.configure({rules: [{id: "color-contrast", selector: "*:not([data-alike])"}]});
  return axe.run(document, {preload: false, resultTypes: ["violations"], rules: {region: {enabled: false}}});
}"""


def axe(seen: Visit) -> list[str]:
    """Run axe-core and return what is serious or worse and not excused."""
    script = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    seen.page.evaluate(script)
    seen.page.evaluate(MARK_ALIKE, ALIKE)
    found: dict[str, Any] = seen.page.evaluate(AXE)
    return [
        f"{violation['id']} ({violation['impact']}): {node['html'][:200]} at {node['target']}: {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
        if not any(violation["id"] == rule and part in str(node["target"]) for rule, part, _ in EXCUSED)
    ]


def test_axe_is_really_asked(visit: Open, served: str) -> None:
    seen = visit(f"{served}/index.html")
    code = "<span>black</span> " * 9 + '<span style="color: #ccc">pale</span>'
    grey = '<span style="background: #333">on grey</span>'
    broken = (
        f'<img src="_static/logo.svg"><button></button><pre style="color: #000; background: #fff">{code}{grey}</pre>'
    )
    seen.page.evaluate("html => { document.querySelector('article').innerHTML += html }", broken)
    found = axe(seen)
    assert seen.page.locator("[data-alike]", has_text="black").count() == 9 - ALIKE
    assert any(line.startswith("image-alt") for line in found)
    assert any(line.startswith("button-name") for line in found)
    contrast = [line for line in found if line.startswith("color-contrast")]
    assert [any(word in line for line in contrast) for word in ("pale", "on grey", "black")] == [True, True, False]


def test_the_switch_changes_the_theme_and_remembers_it(visit: Open, served: str) -> None:
    seen = visit(f"{served}/index.html", scheme="light")
    theme = "document.documentElement.dataset.theme"
    background = "getComputedStyle(document.body).backgroundColor"
    light = seen.page.evaluate(background)
    for _ in range(3):
        seen.page.locator(".theme-switch-button:visible").first.click()
        if seen.page.evaluate(theme) == "dark":
            break
    assert seen.page.evaluate(theme) == "dark"
    assert seen.page.evaluate(background) != light
    seen.page.reload()
    assert seen.page.evaluate(theme) == "dark"
    assert seen.errors == []


def test_search_finds_a_page(visit: Open, served: str) -> None:
    seen = visit(f"{served}/search.html?q=MobileNetV3")
    seen.page.locator("#search-results li a").first.wait_for()
    assert seen.page.locator("#search-results li a").count() >= 1
    assert seen.errors == []


def test_the_search_key_opens_the_field(visit: Open, served: str) -> None:
    seen = visit(f"{served}/index.html")
    seen.page.keyboard.press("Control+k")
    assert seen.page.locator("#pst-search-dialog input").is_visible()


def test_notebook_pages_offer_their_plain_edition(site: Path) -> None:
    for name in CHAPTERS:
        source = site.parent.parent / "book" / name.replace(".html", ".ipynb")
        if source.is_file():
            plain = f"plain/{source.name}"
            links = [str(link["href"]) for link in parse(site / name).select(".article-header-buttons a[href]")]
            for start in ("https://mybinder.org/", "https://colab.research.google.com/"):
                (link,) = [link for link in links if link.startswith(start)]
                assert link.endswith(f"/book/{plain}"), name
            assert [link for link in links if link.endswith(".ipynb") and link.startswith("_sources/")] == [
                f"_sources/{plain}"
            ]
            published = json.loads((site / "_sources" / plain).read_text(encoding="utf-8"))
            assert published == json.loads((source.parent / plain).read_text(encoding="utf-8"))


def test_figures_equations_and_exercises_have_the_numbers_of_the_plain_edition(site: Path) -> None:
    compared = 0
    for name in CHAPTERS:
        edition = site / "_sources" / "plain" / name.replace(".html", ".ipynb")
        if edition.is_file():
            cells = json.loads(edition.read_text(encoding="utf-8"))["cells"]
            text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
            page = parse(site / name)
            said = {
                "figures": [one.text.split()[-1] for one in page.select("figcaption .caption-number")],
                "equations": [one.text.strip("()¶# ") for one in page.select(".eqno")],
                "exercises": [one.text.split()[1] for one in page.select(".exercise .caption-number")],
            }
            assert said == {
                "figures": re.findall(r"^\*\*Fig\. ([\d.]+)\.\*\*", text, flags=re.MULTILINE),
                "equations": re.findall(r"\\tag\{([\d.]+)\}", text),
                "exercises": re.findall(r"^\*\*Exercise ([\d.]+) ·", text, flags=re.MULTILINE),
            }, name
            chapter = re.match(r"(\d\d)_", name)
            before = f"{int(chapter[1])}." if chapter else ""
            for numbers in said.values():
                assert numbers == [f"{before}{count}" for count in range(1, len(numbers) + 1)], name
            for figure in page.select("figure[id]"):
                links = page.select(f'a[href="#{figure["id"]}"]:not(.headerlink)')
                assert {link.text for link in links} == {figure.select_one(".caption-number").text.strip()}, figure[
                    "id"
                ]
            compared += sum(map(len, said.values()))
    assert compared > 200


# The explorer --------------------------------------------------------------------------------------------------------


def shown(widget: Any) -> tuple[int, int]:
    """Return the parameters and multiply-adds that an explorer shows."""
    widget.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    numbers = [widget.locator(f'[data-exact="{name}"]').inner_text() for name in ("parameters", "macs")]
    parameters, macs = (int(re.sub(r"\D", "", text)) for text in numbers)
    return parameters, macs


def expected(state: dict[str, Any]) -> tuple[int, int]:
    """Return what the library says about an explorer's state."""
    options = {name: state[name] for name in ("width_mult", "reduced_tail", "dilated", "rounding")}
    report = cost.profile(VARIANTS[state["variant"]](**options), state["resolution"])
    return report.parameters, report.macs


@each_widget_page
@pytest.mark.parametrize(
    ("over", "scheme", "width"), [("http", "light", 1280), ("http", "dark", 1280), ("file", "light", 360)]
)
def test_the_explorer_answers(
    visit: Open, served: str, site: Path, name: str, over: str, scheme: str, width: int
) -> None:
    seen = visit(f"{served}/{name}" if over == "http" else (site / name).as_uri(), scheme=scheme, width=width)
    explorers = seen.page.locator('.mnv3-widget[data-widget="explorer"]')
    assert explorers.count() > 0, "no explorer on this page"
    for index in range(explorers.count()):
        widget = explorers.nth(index)
        state = json.loads(widget.get_attribute("data-state") or "")
        assert widget.get_attribute("data-live") is not None
        assert shown(widget) == expected(state)
        slider = widget.locator('input[type=range][data-control="width_mult"]')
        if not slider.count():
            continue

        def value(slider: Any = slider) -> float:
            return round(float(slider.input_value()), 2)

        slider.focus()
        before = value()
        slider.press("ArrowLeft")
        assert value() == round(before - 0.05, 2)
        assert shown(widget) == expected({**state, "width_mult": value()})
        slider.press("Home")
        assert value() == 0.25
        assert shown(widget) == expected({**state, "width_mult": 0.25})
        slider.press("End")
        assert value() == 2.0
        assert shown(widget) == expected({**state, "width_mult": 2.0})

        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box is not None
        middle = box["y"] + box["height"] / 2
        seen.page.mouse.move(box["x"] + box["width"] - 8, middle)
        seen.page.mouse.down()
        seen.page.mouse.move(box["x"] + box["width"] * 0.3, middle, steps=5)
        seen.page.mouse.up()
        assert 0.25 < value() < 2.0
        assert shown(widget) == expected({**state, "width_mult": value()})
    assert seen.outside == []
    assert seen.errors == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.proves(
    "The explorer on the published page, turned in a browser",
    against="the cost model",
    tolerance=0,
    unit="count",
)
@pytest.mark.slow
def test_every_stop_of_every_control_is_the_librarys(visit: Open, served: str, deviation: Deviation) -> None:
    """Set all controls of the first page's explorer in turn; each total must be the cost model's, to the last digit."""
    seen = visit(f"{served}/index.html")
    rows = seen.page.evaluate(
        """() => {
          const root = document.querySelector('.mnv3-widget[data-widget="explorer"]');
          const control = (name) => root.querySelector(`[data-control="${name}"]`);
          const number = (name) => Number(root.querySelector(`[data-exact="${name}"]`).textContent.replace(/\\D/g, ""));
          const waiting = []; // 1,408 frames at the pace of a screen take half a minute
          window.requestAnimationFrame = (draw) => waiting.push(draw);
          const frame = () => waiting.splice(0).forEach((draw) => draw(performance.now()));
          const set = (name, value) => {
            const input = control(name);
            if (input.type === "checkbox") input.checked = value;
            else input.value = value;
            input.dispatchEvent(new Event(input.type === "range" ? "input" : "change", {bubbles: true}));
          };
          const stops = (input) => Array.from(
            {length: Math.round((input.max - input.min) / input.step) + 1}, (_, i) => +input.min + i * input.step);
          const values = (name) => Array.from(control(name).options, (option) => option.value);
          const read = [];
          const note = (state) => read.push([state, number("parameters"), number("macs")]);
          for (const variant of values("variant"))
            for (const rounding of values("rounding"))
              for (const reduced_tail of [false, true])
                for (const dilated of [false, true]) {
                  for (const [name, value] of Object.entries({variant, rounding, reduced_tail, dilated}))
                    set(name, value);
                  const widths = stops(control("width_mult")), sizes = stops(control("resolution"));
                  const turns = [...widths.map((width, i) => [width, sizes[i % sizes.length]]),
                                 ...sizes.map((size) => [1, size])];
                  for (const [width, resolution] of turns) {
                    set("width_mult", width);
                    set("resolution", resolution);
                    frame();
                    const width_mult = Math.round(100 * width) / 100;
                    note({variant, rounding, reduced_tail, dilated, width_mult, resolution});
                  }
                }
          return read;
        }"""
    )
    assert len(rows) == 4 * 2 * 2 * 2 * (36 + 8)
    for state, *got in rows:
        deviation(sum(abs(a - b) for a, b in zip(got, expected(state), strict=True)))
    assert seen.errors == []


# Figures with sliders ------------------------------------------------------------------------------------------------

LOOK = """async (widget, frame) => {
  await new Promise((done) => requestAnimationFrame(done)); // after the figure's own
  const right = document.createElement("div");
  right.innerHTML = frame;
  const picture = widget.querySelector(".mnv3x-picture");
  const [drawn, wanted] = [picture, right].map((parent) => parent.querySelector("[role=img]"));
  return {
    stops: Array.from(widget.querySelectorAll("input[type=range]"), (slider) => slider.getAttribute("aria-valuetext")),
    outputs: Array.from(widget.querySelectorAll("output"), (output) => output.textContent),
    words: drawn.getAttribute("aria-label"),
    wanted: wanted.getAttribute("aria-label"),
    same: picture.innerHTML === right.innerHTML,
    size: Math.min(drawn.clientWidth, drawn.clientHeight),
    beyond: widget.scrollWidth - widget.clientWidth,
    page: document.documentElement.scrollWidth,
  };
}"""


def look(widget: Any, at: list[str], picture: str) -> str:
    """Assert that a figure at these stops shows this picture, on a page of 360 pixels, and return its words."""
    now = widget.evaluate(LOOK, picture)
    assert now["stops"] == now["outputs"] == at
    assert now["words"] == now["wanted"] != "", at
    assert now["same"], at
    assert now["size"] > 100, at
    assert now["beyond"] <= 0, at
    assert now["page"] <= 360, at
    return str(now["words"])


def test_every_chapter_has_a_control(site: Path) -> None:
    assert NUMBERED
    assert set(NUMBERED) - {*FLIPBOOKS, *WIDGETS} == set()


@each_flipbook_page
def test_every_stop_of_a_slider_shows_its_picture(visit: Open, site: Path, name: str) -> None:
    """Walk each slider by keyboard from end to end; the next one starts from where that leaves the figure."""
    seen = visit((site / name).as_uri(), width=360)
    places = parse(site / name).select('.mnv3-widget[data-widget="flipbook"]')
    assert places, "no flipbook on this page"
    for place, widget in zip(places, seen.page.locator('[data-widget="flipbook"][data-live]').all(), strict=True):
        state = json.loads(str(place["data-state"]))
        assert all(re.search(r'role="img" aria-label="[^"]+"', frame) for frame in state["frames"])
        stops = {control["name"]: control["stops"] for control in state["controls"]}
        # The last control turns fastest.
        pictures = dict(zip(product(*stops.values()), state["frames"], strict=True))
        at = [control["stops"][start] for control, start in zip(state["controls"], state["position"], strict=True)]
        fallback = [drawn["alt"] for drawn in place.select("img")]
        assert [look(widget, at, pictures[tuple(at)])] == fallback, "without JavaScript it is another picture"
        for turned, control in enumerate(stops):
            slider = widget.locator(f'input[data-control="{control}"]')
            slider.focus()
            shown, heard = set(), set()
            for stop in stops[control]:
                seen.page.keyboard.press("ArrowRight" if shown else "Home")
                at[turned] = stop
                heard.add(look(widget, at, pictures[tuple(at)]))
                shown.add(pictures[tuple(at)])
            assert slider.input_value() == slider.get_attribute("max")
            assert len(shown) > 1, f"{control} changes nothing"
            assert len(heard) > 1, f"{control} changes nothing for those who listen"
    assert seen.errors == []
    assert seen.outside == []
    assert seen.transferred == {}, "nothing is asked of a server"


# Recall questions, and code to copy ----------------------------------------------------------------------------------

QUIZZES = [name for name in CHAPTERS if 'id="recall"' in (SITE / name).read_text(encoding="utf-8")]
WITH_CODE = [name for name in CHAPTERS if "cell_input" in (SITE / name).read_text(encoding="utf-8")]
#: Of an option: its letter, whether it is pressed, and what its question says.
HEARD = """(option, question) => [
  `(${option.dataset.option})`,
  option.getAttribute("aria-pressed"),
  document.querySelectorAll(".mnv3-quiz-said")[question].innerText,
]"""


def test_every_chapter_asks_questions(site: Path) -> None:
    assert ASKING
    assert set(ASKING) - set(QUIZZES) == set()


@pytest.mark.parametrize("name", sorted({*QUIZZES, *WITH_CODE}) or ["index.html"])
def test_what_can_be_pressed_answers(visit: Open, served: str, name: str) -> None:
    seen = visit(f"{served}/{name}")
    if name in WITH_CODE:
        code_is_copied(seen)
    if name in QUIZZES:
        recall_questions_answer_back(seen, parse(SITE / name).select("#recall > details"))
    assert seen.errors == []


def code_is_copied(seen: Visit) -> None:
    """Press the button of a page's first code."""
    block = seen.page.locator(".cell_input .highlight:visible").first
    block.hover()
    block.locator("button.copybtn").click()
    block.locator("button.copybtn.success").wait_for()
    copied = seen.page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == block.locator("pre").inner_text().strip() != ""


def recall_questions_answer_back(seen: Visit, boxes: list[Any]) -> None:
    """Choose every option by keyboard; what is said is the word on it in the question's box."""
    lists = seen.page.locator("ul.mnv3-quiz")
    assert lists.count() == len(boxes) >= 5
    for question, box in enumerate(boxes):
        letters = [
            mark.get_text() for mark in box.select("p strong, p em") if re.fullmatch(r"\([a-z]\)", mark.get_text())
        ]
        right = [mark.get_text() for mark in box.select("p strong") if re.fullmatch(r"\([a-z]\)", mark.get_text())]
        options = lists.nth(question).locator("button").all()
        assert len(right) == 1, "exactly one option is right"
        hints = set()
        for option in options:
            option.focus()
            seen.page.keyboard.press("Enter")
            letter, pressed, said = option.evaluate(HEARD, question)
            verdict = "Right." if letter == right[0] else "No."
            assert said.startswith(f"{letter} {verdict}")
            assert pressed == "true"
            hint = said.removeprefix(f"{letter} {verdict}").strip()
            assert hint or verdict == "Right.", "every wrong option has a hint"
            hints.add((letter, hint))
        assert len(hints) == len(options) >= 3
        assert sorted(letters) == sorted(letter for letter, _ in hints)


# On a phone, on paper, in the search ----------------------------------------------------------------------------------


@each_widget_page
def test_on_a_phone_the_sliders_and_the_bars_are_seen_together(visit: Open, served: str, name: str) -> None:
    """Scroll each row of bars to the middle of a small screen: both sliders are on it, and nothing lies over them."""
    page = visit(f"{served}/{name}", width=360).page
    page.set_viewport_size({"width": 360, "height": 640})
    widget = page.locator('[data-widget="explorer"]').first
    sliders = widget.locator("input[type=range]").all()
    for row in (".mnv3x-channels .mnv3x-row", ".mnv3x-macs .mnv3x-row"):
        for place in ("first", "last"):
            bar = getattr(widget.locator(row), place)
            bar.evaluate("bar => bar.scrollIntoView({block: 'center'})")
            for slider in sliders:
                seen = slider.evaluate(
                    """slider => { const box = slider.getBoundingClientRect();
                    return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === slider }"""
                )
                assert seen, f"{row} {place}"


def test_the_fade_is_on_the_side_where_there_is_more(visit: Open, served: str) -> None:
    page = visit(f"{served}/proof_ledger.html", width=360).page
    table = page.locator(".ledger .pst-scrollable-table-container").first
    sides = "table => [table.hasAttribute('data-more-left'), table.hasAttribute('data-more-right')]"
    assert table.evaluate(sides) == [False, True]
    table.evaluate(f"async table => {{ table.scrollLeft = 40; {SETTLED} }}")
    assert table.evaluate(sides) == [True, True]
    table.evaluate(f"async table => {{ table.scrollLeft = 10_000; {SETTLED} }}")
    assert table.evaluate(sides) == [True, False]


def test_layer_by_layer_fits_a_phone(visit: Open, served: str) -> None:
    page = visit(f"{served}/index.html", width=360).page
    page.locator(".mnv3x summary").first.click()
    widths = page.locator(".mnv3x-scroll").first.evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert widths[0] == widths[1]


def test_the_ledger_fits_a_desk(visit: Open, served: str) -> None:
    page = visit(f"{served}/proof_ledger.html", width=1280).page
    boxes = page.locator(".ledger .pst-scrollable-table-container")
    assert boxes.count() > 3
    assert [box.evaluate("e => e.scrollWidth - e.clientWidth") for box in boxes.all()] == [0] * boxes.count()


def test_a_value_stands_clear_of_its_label(visit: Open, served: str, site: Path) -> None:
    for name in ("index.html", "11_training_recipe.html"):
        page = visit((site / name).as_uri(), width=360).page
        for control in page.locator(".mnv3x-control:has(> output)").all():
            gap = control.evaluate(
                """control => { const [label, value] = [...control.children].map(e => {
                const range = document.createRange(); range.selectNodeContents(e);
                return range.getBoundingClientRect() });
                return value.x - label.x - label.width }"""
            )
            assert gap >= 6, control.inner_text()
            assert re.search(r"\s", control.evaluate("c => c.textContent.slice(c.children[0].textContent.length)[0]"))


def streams(pdf: bytes) -> str:
    """Return the drawing commands of a PDF file."""
    found = []
    for match in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", pdf, flags=re.S):
        try:
            found.append(zlib.decompress(match[1]).decode("latin-1"))
        except zlib.error:
            continue  # a font or a picture
    return "\n".join(found)


def fills(commands: str) -> set[tuple[int, int, int]]:
    """Return the colours of areas and letters in a PDF's drawing commands."""
    numbers = r"([\d.]+) ([\d.]+) ([\d.]+) rg"
    return {tuple(round(255 * float(n)) for n in match.groups()) for match in re.finditer(numbers, commands)}  # type: ignore[misc]


def test_paper_is_white_and_has_the_explorers_colours(visit: Open, served: str) -> None:
    """Printed out of the dark theme: the same colours as out of the light one, and those of the bars."""
    colours = {}
    for scheme in ("light", "dark"):
        page = visit(f"{served}/index.html", scheme=scheme).page
        colours[scheme] = fills(streams(page.pdf(print_background=False)))
        assert page.evaluate("document.documentElement.dataset.theme") == scheme, "the screen is as before"
    assert colours["dark"] == colours["light"]
    for kind in ("expand", "depthwise", "project", "classifier"):
        colour = KINDS[kind].lstrip("#")
        assert tuple(bytes.fromhex(colour)) in colours["light"], kind


@pytest.mark.parametrize("name", ["01_convolution_cost.html", "api.html", "proof_ledger.html"])
def test_a_page_prints_dark_on_white(visit: Open, served: str, name: str) -> None:
    page = visit(f"{served}/{name}", scheme="dark").page
    page.emulate_media(media="print")
    page.wait_for_function("document.documentElement.dataset.theme === 'light'")
    ink, paper = page.evaluate(
        """() => { const style = getComputedStyle(document.querySelector("article"));
        return [style.color, getComputedStyle(document.body).backgroundColor] }"""
    )
    assert sum(map(int, re.findall(r"\d+", ink)[:3])) < 3 * 70
    assert paper == "rgb(255, 255, 255)"
    page.emulate_media(media="screen")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")


def results(seen: Visit, served: str, query: str) -> list[tuple[str, str]]:
    """Search; return the addresses found and the excerpts, best first."""
    seen.page.goto(f"{served}/search.html?q={quote_plus(query)}")
    seen.page.locator("#search-results > p, #search-results li a").first.wait_for()
    seen.page.wait_for_function(
        "Search.output && !document.querySelector('#search-progress')?.textContent.match(/\\.$/)"
    )
    seen.page.wait_for_load_state("networkidle")
    items = seen.page.locator("#search-results li").all()
    links = [urlsplit(str(item.locator("a").first.get_attribute("href"))) for item in items]
    excerpts = [" ".join(item.locator("p.context").all_inner_texts()) for item in items]
    return [
        (link.path + (f"#{link.fragment}" if link.fragment else ""), text)
        for link, text in zip(links, excerpts, strict=True)
    ]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("feature map", "glossary.html#term-feature-map"),
        ("fine-tune my own folder", "12_transfer_learning.html"),
        ("export onnx", "proof_ledger.html#what-is-proven"),
        ("rounding rule", "glossary.html#term-rounding-rule"),
        ("channel rule", "glossary.html#term-rounding-rule"),
        ("half-width", "glossary.html#term-saturation-point"),
        ("squeeze-and-excitation", "glossary.html#term-squeeze-and-excitation"),
    ],
)
def test_the_search_finds_what_readers_ask_for(visit: Open, served: str, query: str, first: str) -> None:
    seen = visit(f"{served}/search.html")
    assert results(seen, served, query)[0][0] == first
    assert seen.errors == []


@pytest.mark.parametrize("query", ["feature map", "depthwise", "learning rate"])
def test_excerpts_are_prose(visit: Open, served: str, query: str) -> None:
    found = results(visit(f"{served}/search.html"), served, query)
    assert len(found) > 3
    assert sum(text != "" for _, text in found) > len(found) / 2
    for address, text in found:
        assert text == "" or WORDS.search(text), f"{address}: an excerpt of {text!r}"
        assert not re.search(r"code cell|\d{10}|\bimport |\bprint\(|\\\(|def \w", text), f"{address}: {text}"
