"""The playground in a real browser: what a person types, sees and hears."""

import shutil

import pytest
from selenium import webdriver
from selenium.common.exceptions import JavascriptException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from sparse_embed.server import create_app, local_provider, serve_in_thread
from sparse_embed.server.engines.bm25 import Bm25
from sparse_embed.server.engines.hashing import Hashing
from sparse_embed.server.engines.languages import find_language

KEY = "the-server-key-4711"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DOCUMENTS = ["A fox, a fox, my kingdom for a fox!", "The dog sleeps.", "Foxes chase the dog.", "Rain in spring."]
QUERY = "fox and dog"
NO_PLACE = "\N{EN DASH}"
MARKUP = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"

# Text whose contrast with what is behind it is below WCAG's 4.5 (AA): [text, ratio].
FAINT = """
const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) => [r, g, b]
  .map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const color = numbers(getComputedStyle(element).backgroundColor);
    if (color[3] !== 0) return color;
  }
};
return [...document.querySelectorAll("body *")]
  .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  .map((e) => {
    const [dark, light] = [numbers(getComputedStyle(e).color), behind(e)].map(luminance).sort((a, b) => a - b);
    return [e.textContent, (light + 0.05) / (dark + 0.05)];
  })
  .filter(([, ratio]) => ratio < 4.5);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as driver:
        yield driver


@pytest.fixture(scope="module")
def server():
    with local_provider() as url:
        yield url


class Page:
    """The playground, opened; its parts by the names that a reader sees."""

    def __init__(self, browser, url, *, width=1280, scheme="light"):
        self.browser = browser
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}  # a click hits nothing that moves
        features = [{"name": name, "value": value} for name, value in media.items()]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get(url)
        self.wait(lambda: self.by_id("sparse").text or self.error)

    def wait(self, condition):
        WebDriverWait(self.browser, 30, poll_frequency=0.05).until(lambda _: condition())

    def by_id(self, name):
        return self.browser.find_element(By.ID, name)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def type(self, name, text):
        self.by_id(name).clear()
        # As a paste would: send_keys types, and a tab in a text would move the focus.
        self.browser.execute_script("arguments[0].value = arguments[1]", self.by_id(name), text)

    def submit(self):
        self.by_id("query").send_keys(Keys.ENTER)
        self.wait(lambda: "ranked" in self.status or self.error)

    def rank(self, documents=DOCUMENTS, query=QUERY):
        self.type("documents", "\n".join(documents))
        self.type("query", query)
        self.submit()

    @property
    def error(self):
        return self.by_id("error").text

    @property
    def status(self):
        return self.by_id("status").text

    @property
    def table(self):
        """Rows of [number, text, [place and score of sparse, of dense, of fused]], as they are shown."""
        rows = [[cell.text.split() for cell in row.find_elements(By.TAG_NAME, "td")] for row in self.all("#ranked tr")]
        numbers = [int(number.text) for number in self.all("#ranked .number")]
        texts = [text.text for text in self.all("#ranked .text")]
        return [list(row) for row in zip(numbers, texts, rows, strict=True)]

    def terms(self, title):
        """The terms of one card, with their weights."""
        [card] = [card for card in self.all("article") if card.find_element(By.TAG_NAME, "h3").text == title]
        pairs = [item.text.split("\n")[:2] for item in card.find_elements(By.TAG_NAME, "li")]
        matched = [
            item.find_element(By.CLASS_NAME, "token").text for item in card.find_elements(By.CLASS_NAME, "match")
        ]
        return dict(pairs), matched

    @property
    def console(self):
        return [entry["message"] for entry in self.browser.get_log("browser")]


def dot(one, other):
    weights = dict(zip(other.indices, other.values, strict=True))
    return sum(value * weights.get(index, 0.0) for index, value in zip(one.indices, one.values, strict=True))


def places(scores):
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    return {number: place for place, number in enumerate(order, 1) if scores[number]}


@pytest.mark.parametrize("wire", ["chroma", "pinecone"])
def test_sparse_dense_and_fused_ranking_stand_side_by_side(browser, server, wire):
    page = Page(browser, server)
    page.browser.find_element(By.CSS_SELECTOR, f"[value={wire}]").click()
    page.rank()

    [query], documents = Bm25().embed([QUERY], "query").vectors, Bm25().embed(DOCUMENTS, "document").vectors
    sparse = [dot(query, document) for document in documents]
    [dense_query, *dense_documents] = Hashing().embed([QUERY, *DOCUMENTS], "document").vectors
    dense = [sum(a * b for a, b in zip(dense_query, each, strict=True)) for each in dense_documents]
    by_sparse, by_dense = places(sparse), places(dense)
    fused = [
        sum(1 / (60 + ranking[number]) for ranking in (by_sparse, by_dense) if number in ranking)
        for number in range(len(DOCUMENTS))
    ]
    by_fused = places(fused)

    def shown(ranking, scores, number, decimals):
        if number not in ranking:
            return [NO_PLACE, "not", "found"]  # the words for those who only hear the page
        return [str(ranking[number]), f"{scores[number]:.{decimals}f}".replace("-", "\N{MINUS SIGN}")]

    expected = [
        [
            number + 1,
            DOCUMENTS[number],
            [shown(by_sparse, sparse, number, 2), shown(by_dense, dense, number, 2), shown(by_fused, fused, number, 4)],
        ]
        for number in by_fused
    ]
    assert page.table == expected
    assert page.console == []
    assert "4 documents ranked by local/bm25 and local/hashing." in page.status


def test_the_terms_of_each_vector_are_bars_and_those_that_match_stand_out(browser, server):
    page = Page(browser, server)
    page.rank()
    [vector] = Bm25().embed(DOCUMENTS[2:3], "document").vectors
    weights, matched = page.terms("Document 3")
    assert weights == {token: f"{value:.2f}" for token, value in zip(vector.tokens, vector.values, strict=True)}
    assert sorted(matched) == ["dog", "fox"]
    assert page.terms("Query") == ({"dog": "1.00", "fox": "1.00"}, ["dog", "fox"])
    widths = [bar.value_of_css_property("background-size").split()[0] for bar in page.all("article .match .bar")]
    assert "100%" in " ".join(widths)


def test_a_ranking_is_sorted_by_the_column_that_is_chosen(browser, server):
    page = Page(browser, server)
    page.rank()
    for name, column in (("sparse", 0), ("dense", 1), ("fused", 2)):
        [button] = page.all(f"[data-ranking={name}]")
        button.click()
        shown = [cells[column][0] for _, _, cells in page.table]
        found = [place for place in shown if place != NO_PLACE]
        assert found == [str(place) for place in range(1, len(found) + 1)]
        assert [header.text.split()[0] for header in page.all("[aria-sort]")] == [name.capitalize()]


def test_long_vectors_show_their_heaviest_terms_and_the_rest_on_demand(browser, server):
    page = Page(browser, server)
    page.rank([" ".join(f"word{number}" for number in range(30))], "word7")
    [card] = page.all("article:last-child")
    assert len([item for item in card.find_elements(By.TAG_NAME, "li") if item.is_displayed()]) == 10
    card.find_element(By.TAG_NAME, "summary").click()
    assert len([item for item in card.find_elements(By.TAG_NAME, "li") if item.is_displayed()]) == 30


def test_an_error_shows_the_servers_own_words_until_it_is_mended(browser):
    with local_provider(api_key=KEY) as url:
        page = Page(browser, url)
        assert page.error == "401: invalid API key"
        page.rank()
        assert page.error == "401: invalid API key"
        assert page.by_id("error").aria_role == "alert"
        page.type("key", KEY)
        page.rank()
        assert page.error == ""
        assert "4 documents ranked" in page.status
        page.rank(["text"] * 101)
        assert page.error == "413: 101 texts in one request; at most 100 are taken"
        page.rank([], QUERY)
        assert page.error == "Give at least one document and a query."
        assert not [message for message in page.console if "Security Policy" in message]


def test_a_server_that_is_gone_is_said(browser):
    with local_provider() as url:
        page = Page(browser, url)
    page.rank()
    assert page.error == "The server did not answer. Is it still running?"


def test_the_key_is_sent_and_nowhere_kept(browser):
    with local_provider(api_key="schlüssel-4711") as url:
        page = Page(browser, url)
        page.type("key", "schlüssel-4711")
        page.rank()
        assert "ranked" in page.status
        kept = page.browser.execute_script(
            "return [location.href, document.cookie, localStorage.length + sessionStorage.length,"
            " document.body.innerHTML]"
        )
        assert kept[:3] == [f"{url}/", "", 0]
        assert "schlüssel" not in kept[3]
        page.browser.refresh()
        page.wait(lambda: page.error)
        assert page.by_id("key").get_attribute("value") == "local"


def test_markup_in_texts_is_shown_as_text(browser, server):
    page = Page(browser, server)
    page.rank([MARKUP, f"fox {MARKUP}"], f"fox {MARKUP}")
    assert sorted(text for _, text, _ in page.table) == sorted([MARKUP, f"fox {MARKUP}"])
    assert page.all("#results img, #results script") == []
    assert page.browser.title == "sparse-embed playground"
    assert page.console == []


def test_the_page_loads_its_own_files_only_and_no_script_can_write_markup(browser, server):
    page = Page(browser, server)
    page.rank()
    loaded = page.browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith(f"{server}/") for name in loaded), loaded
    for markup in ("document.body.innerHTML = '<p>'", "document.body.setAttribute('onclick', '')"):
        with pytest.raises(JavascriptException, match="Trusted"):
            page.browser.execute_script(markup)


def test_everything_works_by_keyboard_in_reading_order_and_has_a_name(browser, server):
    page = Page(browser, server)
    keys = webdriver.ActionChains(browser)

    def press(key):
        keys.send_keys(key).perform()
        focused = browser.switch_to.active_element
        assert focused.accessible_name
        outlined = focused.find_element(By.XPATH, "..") if focused.get_attribute("type") == "radio" else focused
        assert outlined.value_of_css_property("outline-style") != "none"
        return focused.get_attribute("id") or focused.get_attribute("value") or focused.text

    assert press(Keys.TAB) == "chroma"
    assert press(Keys.ARROW_RIGHT) == "pinecone"
    page.wait(lambda: page.by_id("sparse").text)
    assert [press(Keys.TAB) for _ in range(5)] == ["key", "sparse", "dense", "documents", "query"]
    keys.send_keys(Keys.END, " dog").perform()
    assert press(Keys.TAB) == "Embed and rank"
    press(Keys.ENTER)
    page.wait(lambda: "ranked" in page.status)
    assert page.by_id("status").aria_role == "status"
    assert page.terms("Query")[0].keys() == {"dog", "headach", "treat"}
    assert press(Keys.TAB).startswith("Sparse")
    press(Keys.ENTER)
    assert [header.text.split()[0] for header in page.all("[aria-sort]")] == ["Sparse"]
    assert page.console == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_text_is_legible_and_fits_the_width(browser, scheme, width):
    own = Bm25("company/a-model-with-a-name-that-is-much-longer-than-a-phone-is-wide")
    with serve_in_thread(create_app(own_bm25=[own])) as url:
        page = Page(browser, url, width=width, scheme=scheme)
        Select(page.by_id("sparse")).select_by_visible_text(own.name)
        page.rank(["https://example.org/" + "x" * 200, "fox " + "word" * 9, *DOCUMENTS], "fox " + "word" * 9)
        assert page.error == ""
        assert (
            page.browser.execute_script(
                "const page = document.documentElement; return page.scrollWidth === page.clientWidth && innerWidth"
            )
            == width
        )
        assert page.browser.execute_script(FAINT) == []
        dark = page.browser.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")
        assert dark is (scheme == "dark")
        page.type("documents", "")
        page.submit()
        assert page.error
        assert page.browser.execute_script(FAINT) == []


def test_a_bm25_of_ones_own_is_there_to_choose(browser):
    german = Bm25("local/bm25-de", language=find_language("german"), average_length=8)
    with serve_in_thread(create_app(own_bm25=[german])) as url:
        page = Page(browser, url)
        Select(page.by_id("sparse")).select_by_visible_text("local/bm25-de")
        page.rank(["Die Häuser stehen am Fluss."], "das Haus")
        [vector] = german.embed(["Die Häuser stehen am Fluss."], "document").vectors
        weights, matched = page.terms("Document 1")
        assert weights == {token: f"{value:.2f}" for token, value in zip(vector.tokens, vector.values, strict=True)}
        assert matched == ["haus"]
        assert "local/bm25-de and local/hashing" in page.status


def test_a_pair_of_models_is_one_choice_and_an_answer_names_its_engine(browser):
    with local_provider(stand_in=True) as url:
        page = Page(browser, url)
        choices = [option.text for option in Select(page.by_id("sparse")).options]
        assert "naver/efficient-splade-VI-BT-large-doc" in choices
        assert "naver/efficient-splade-VI-BT-large-query" not in choices
        Select(page.by_id("sparse")).select_by_visible_text("naver/efficient-splade-VI-BT-large-doc")
        page.rank()
        assert page.terms("Query")[0] == {"dog": "1.00", "fox": "1.00"}
        assert "naver/efficient-splade-VI-BT-large-doc (answered by local/bm25)" in page.status
