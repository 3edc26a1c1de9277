"""Uses the dashboard as people do: browser.py PART ADMIN SERVER UPSTREAM. Says `fine` at the end of a part that went well.

FENDER_SHOTS names a folder that takes pictures of it, for people to look at. The part `pictures` makes those of docs/images of whatever
Fender runs at ADMIN: an outage of some minutes, with letters.
"""

import os
import shutil
import sys
import urllib.error
import urllib.request

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

PART, ADMIN, SERVER, UPSTREAM = (sys.argv[1:] + ["", ""])[:4]
OPERATOR, VIEWER = "operators-secret", "viewers-secret"
MARKUP = "<img src=x onerror=\"document.title='owned'\">"
WIDE, SMALL = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


def ask(url, data=None, **headers):
    """The status of one call; an answer of whatever kind is one."""
    request = urllib.request.Request(url, data=data, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def open_breaker():
    ask(f"{SERVER}/openai/ok")
    for _ in range(3):
        assert ask(f"{SERVER}/openai/fail") == 500
    assert ask(f"{SERVER}/openai/fail") == 503, "the breaker is open"


def park_letters(count):
    for number in range(count):
        assert ask(f"{SERVER}/whatsapp/send/{number}", b"hello", x_chat=MARKUP + str(number)) == 500


class Page:
    """A page, and what the browser has to say against it."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(locale="en-GB", timezone_id="UTC", **{"viewport": WIDE, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.expected, self.said, self.asked = [], [], []
        self.page.on("console", lambda message: self.hear(message))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        # A violation of the policy is also an event, whether or not the console tells it.
        self.page.add_init_script("addEventListener('securitypolicyviolation', (it) => console.error('policy: ' + it.violatedDirective))")

    def hear(self, message):
        if message.type in ("error", "warning"):
            place = message.location.get("url", "")
            if not any(part in message.text or part in place for part in self.expected):
                self.said.append(f"{message.type}: {message.text} ({place})")

    def enter(self, token=OPERATOR):
        self.page.goto(f"{ADMIN}/")
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Look").click()
        expect(self.page.locator("#board")).to_be_visible()
        expect(self.page.get_by_role("button", name="openai", exact=True)).to_be_visible()
        return self.page

    def accessible(self, what):
        found = Axe().run(self.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
        assert len(found.response["passes"]) >= 20, f"axe looked at nothing: {what}"
        assert not found.response["violations"], f"{what}: {found.generate_report()}"

    def shot(self, name, **options):
        if folder := os.environ.get("FENDER_SHOTS"):
            self.page.screenshot(path=f"{folder}/{name}.png", **{"full_page": True, **options})

    def end(self):
        assert not self.said, self.said
        secrets = [url for url in self.asked if OPERATOR in url or VIEWER in url]
        assert not secrets, secrets
        elsewhere = [url for url in self.asked if not url.startswith((f"{ADMIN}/", "data:"))]
        assert not elsewhere, elsewhere
        assert self.page.title() != "owned"
        self.context.close()


def harness(browser):
    """What the other parts rely on: a violation, an error and a bad contrast do not pass unseen."""
    it = Page(browser)
    page = it.enter()
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), { textContent: 'document.title = \"owned\"' }))")
    page.evaluate("document.querySelector('#letters-part').insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p>')")
    page.evaluate("fetch('http://127.0.0.1:9/').catch(() => {})")
    page.evaluate("setTimeout(() => missing(), 0)")
    parts = ("policy: script-src-elem", "policy: style-src-attr", "policy: connect-src", "missing is not defined")
    unheard = parts
    for _ in range(100):
        unheard = [part for part in parts if not any(part in said for said in it.said)]
        if not unheard:
            break
        page.wait_for_timeout(50)
    assert not unheard, (unheard, it.said)
    assert page.title() != "owned"
    it.accessible("as it is")
    page.evaluate("document.querySelector('#freshness').style.color = '#999'")
    try:
        it.accessible("made worse")
    except AssertionError as found:
        assert "color-contrast" in str(found)
    else:
        raise AssertionError("axe does not see what is hard to see")


def door(browser):
    it = Page(browser)
    it.expected = ["401"]
    page = it.page
    page.goto(f"{ADMIN}/")
    expect(page.get_by_role("heading", name="Token needed")).to_be_visible()
    it.accessible("the door")
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This token is not known.")
    it.enter()
    assert "secret" not in page.url
    # It is this tab's: a reload knows it, another tab does not, and nothing outlives the session.
    page.reload()
    expect(page.locator("#board")).to_be_visible()
    other = it.context.new_page()
    other.goto(f"{ADMIN}/")
    expect(other.locator("#door")).to_be_visible()
    assert other.evaluate("localStorage.length") == 0 and it.context.cookies() == []
    other.close()
    page.get_by_role("button", name="Forget the token").click()
    expect(page.locator("#door")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    page.reload()
    expect(page.locator("#door")).to_be_visible()
    it.end()


def breaker(browser):
    it = Page(browser)
    page = it.enter()
    wrong = page.locator("#wrong")
    expect(wrong).to_contain_text("Nothing is wrong.")
    expect(page.locator("#upstreams tbody tr")).to_have_count(3)
    open_breaker()
    expect(wrong).to_contain_text("openai: breaker open")
    expect(wrong).to_contain_text("3 of 4 calls failed")
    expect(wrong).to_contain_text("because of openai (high)")
    first = page.locator("#upstreams tbody tr").first
    expect(first).to_contain_text("openai")
    expect(first).to_contain_text("open")
    expect(first).to_contain_text("probe in")
    expect(page.locator("#events li").first).to_be_visible()
    expect(page.locator("#events")).to_contain_text("breaker.opened")
    expect(page).to_have_title("(2) Fender")
    # The charts fill by steps.
    expect(first.locator("svg.chart polyline.all").first).to_be_attached()
    page.get_by_role("button", name="openai", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("the upstream")
    expect(dialog.get_by_role("table", name="Breakers")).to_contain_text("3 (75%)")
    it.accessible("an upstream")
    it.shot("upstream-wide", full_page=False)
    # What stands behind it goes on, and the focus finds its way back all the same.
    for _ in range(2):
        with page.expect_response("**/api/v1/breakers"):
            pass
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="openai", exact=True)).to_be_focused()
    it.end()


def letters(browser):
    park_letters(5)
    it = Page(browser)
    it.expected = ["/api/v1/requests/", "412"]
    page = it.enter()
    rows = page.locator("#letters tbody tr")
    expect(rows).to_have_count(5)
    expect(page.locator("#wrong")).to_contain_text("5 letters wait for an operator")
    rows.first.get_by_role("button").click()
    dialog = page.locator("#detail")
    expect(dialog).to_contain_text("nobody knows whether the API acted")
    # What came from outside is text.
    expect(dialog).to_contain_text(MARKUP)
    assert dialog.locator("img, script").count() == 0
    it.accessible("a letter")
    it.shot("letter-wide", full_page=False)
    page.keyboard.press("Escape")

    # Its story is told: what Fender says of it, and text alone where it comes from outside.
    rows.first.get_by_role("button").click()
    for part in ("Its story", "Whose it is now", "to upstream whatsapp", "Decided by", "fender.toml:"):
        expect(dialog).to_contain_text(part)
    it.accessible("a story")
    it.shot("story-wide", full_page=False)
    page.keyboard.press("Escape")
    steps = [{"at_ms": 1, "kind": "retry", "says": f"kept {MARKUP}", "config": {"key": MARKUP, "value": MARKUP, "set_by": MARKUP}}]
    page.route("**/api/v1/requests/*", lambda route: route.fulfill(json={"owner": {"who": MARKUP, "why": MARKUP}, "steps": steps}))
    rows.first.get_by_role("button").click()
    expect(dialog).to_contain_text(f"kept {MARKUP}")
    assert dialog.locator("img, script").count() == 0
    page.unroute_all()
    page.keyboard.press("Escape")

    # By the id of a request or of a letter; one that nobody knows is said to be so.
    field = page.get_by_label("Its fender-request-id, or a letter’s id")
    letter = page.request.get(f"{ADMIN}/api/v1/letters?limit=1", headers={"authorization": f"Bearer {OPERATOR}"}).json()["letters"][0]["id"]
    field.fill(letter)
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text(f"What happened to {letter}")
    expect(dialog).to_contain_text("POST /whatsapp/send/")
    it.accessible("a request")
    page.keyboard.press("Escape")
    field.fill("nobody")
    page.get_by_role("button", name="Tell").click()
    expect(page.locator(".said")).to_contain_text("Nothing is known of that id")

    # One given up, after a second thought.
    rows.last.get_by_role("button").click()
    dialog.get_by_role("button", name="Discard…").click()
    question = page.get_by_role("alertdialog", name="Discard this letter?")
    expect(question.get_by_role("button", name="Cancel")).to_be_focused()
    it.accessible("a question")
    question.get_by_role("button", name="Cancel").click()
    expect(rows).to_have_count(5)
    dialog.get_by_role("button", name="Discard…").click()
    question.get_by_role("button", name="Discard it").click()
    expect(page.get_by_role("status")).to_have_text("The letter is discarded.")
    expect(rows).to_have_count(4)

    # One replayed: the API is well now.
    ask(f"{UPSTREAM}/be-well")
    rows.first.get_by_role("button").click()
    dialog.get_by_role("button", name="Replay", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("The letter is on its way again.")
    expect(rows).to_have_count(3)
    expect(page.locator('label[for="state-delivered"]')).to_have_text("delivered 1")

    # Somebody else is faster.
    rows.first.get_by_role("button").click()
    expect(dialog).to_contain_text("nobody knows")
    letter = dialog.get_by_role("heading").first.text_content().split()[-1]
    bearer = f"Bearer {OPERATOR}"
    assert ask(f"{ADMIN}/api/v1/letters/{letter}/discard", b"", authorization=bearer) == 200
    dialog.get_by_role("button", name="Replay", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("The letter has changed since: look again.")
    expect(dialog.locator(".mark").first).to_have_text("discarded")
    page.keyboard.press("Escape")
    expect(rows).to_have_count(2)

    # The rest of them at once.
    page.get_by_role("button", name="Replay all 2…").click()
    question = page.get_by_role("alertdialog", name="Replay 2 letters?")
    question.get_by_role("button", name="Cancel").click()
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="Replay all 2…").click()
    question.get_by_role("button", name="Replay them").click()
    expect(page.get_by_role("status")).to_contain_text("2 letters on their way again")
    expect(page.locator('label[for="state-delivered"]')).to_have_text("delivered 3")
    expect(page.locator("#events")).to_contain_text("letter.delivered")
    page.locator('label[for="state-delivered"]').click()
    expect(rows).to_have_count(3)
    rows.first.get_by_role("button").click()
    expect(dialog.get_by_role("table", name="Attempts")).to_contain_text("success")
    page.keyboard.press("Escape")
    page.get_by_label("Upstream", exact=True).select_option("slack")
    expect(page.locator("#letters-empty")).to_have_text("No letter is delivered.")

    it.end()


def keyboard(browser):
    park_letters(2)
    open_breaker()
    it = Page(browser)
    it.expected = ["/api/v1/requests/"]
    page = it.page
    page.goto(f"{ADMIN}/")
    expect(page.locator("#token")).to_be_focused()
    page.keyboard.type(OPERATOR)
    page.keyboard.press("Enter")
    expect(page.locator("#letters tbody tr")).to_have_count(2)
    # Each thing that can be used, and that is there, gets the focus, and shows it. Of radio buttons it is the chosen one.
    wanted = page.evaluate(
        """() => {
            const all = [...document.querySelectorAll('a[href], button, select, input, [tabindex="0"], summary')];
            const there = all.filter((it) => it.checkVisibility() && !it.disabled && !(it.type === 'radio' && !it.checked));
            there.forEach((it, at) => it.setAttribute('data-tab', at));
            return there.length;
        }"""
    )
    page.evaluate("document.activeElement.blur()")
    reached, unseen = set(), []
    for _ in range(3 * wanted):
        page.keyboard.press("Tab")
        at, shown = page.evaluate(
            """() => {
                const it = document.activeElement;
                const looks = it.type === 'radio' ? it.nextElementSibling : it;
                const style = getComputedStyle(looks);
                return [it.getAttribute('data-tab'), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];
            }"""
        )
        if at is not None:
            reached.add(at)
            if not shown:
                unseen.append(at)
        if len(reached) == wanted:
            break
    # A row that has been drawn anew in between has lost its number.
    lost = page.evaluate("(reached) => [...document.querySelectorAll('[data-tab]')].filter((it) => !reached.includes(it.dataset.tab)).map((it) => it.outerHTML)", list(reached))
    assert not lost and len(reached) >= 10, (wanted, reached, lost)
    assert not unseen, unseen
    # A letter is opened, replayed and the next one given up, without a mouse.
    button = page.locator("#letters tbody tr").first.get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#detail-title")).to_be_focused()
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(page.locator("#detail").get_by_role("button", name="Replay", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alertdialog")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_role("status")).to_have_text("The letter is discarded.")
    expect(page.locator("#letters tbody tr")).to_have_count(1)
    # What had the focus is gone: the next one has it.
    expect(page.locator("#letters tbody tr button")).to_be_focused()
    # States of letters by the arrows.
    page.locator("#state-parked").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#state-pending")).to_be_checked()
    expect(page.locator("#letters-empty")).to_have_text("No letter is pending.")
    it.end()


def looks(browser):
    park_letters(3)
    for _ in range(20):
        ask(f"{SERVER}/slack/ok")
    open_breaker()
    for scheme in ("light", "dark"):
        for name, size in (("wide", WIDE), ("small", SMALL)):
            it = Page(browser, color_scheme=scheme, viewport=size, reduced_motion="reduce")
            it.expected = ["/api/v1/requests/"]
            page = it.enter()
            expect(page.locator("#wrong")).to_contain_text("openai: breaker open")
            expect(page.locator("#letters tbody tr")).to_have_count(3)
            expect(page.locator("#report tbody tr")).to_have_count(3)
            field = page.evaluate("[getComputedStyle(document.querySelector('#story-id')).borderRadius, document.querySelector('#story-id').offsetWidth]")
            assert field[0] != "0px", f"a field looks as the others: {field}"
            it.shot(f"{name}-{scheme}")
            it.accessible(f"{scheme}, {name}")
            for dialog, opener in (("upstream", page.get_by_role("button", name="openai", exact=True)), ("letter", page.locator("#letters tbody tr").first.get_by_role("button"))):
                opener.click()
                expect(page.locator("#detail")).to_be_visible()
                it.shot(f"{dialog}-{name}-{scheme}", full_page=False)
                it.accessible(f"{dialog}, {scheme}, {name}")
                beside = "[...document.querySelectorAll('#detail, #detail .wide')].filter((it) => it.scrollWidth > it.clientWidth).length"
                assert page.evaluate(beside) == 0, f"{dialog}, {scheme}, {name}"
                page.keyboard.press("Escape")
            # Nothing lies beside the screen.
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{scheme}, {name}"
            it.end()


def pictures(browser):
    """Those of docs/images; no test plays it."""
    size = {"width": 1180, "height": 900}
    it = Page(browser, viewport=size)
    it.enter()
    expect(it.page.locator("#letters tbody tr").first).to_be_visible()
    it.shot("dashboard", full_page=False)
    it.end()
    it = Page(browser, viewport=size, color_scheme="dark")
    it.expected = ["/api/v1/requests/"]
    page = it.enter()
    page.locator("#letters tbody tr").filter(has_text="ambiguous").first.get_by_role("button").click()
    expect(page.locator("#detail")).to_contain_text("Its story")
    it.shot("dashboard-letter", full_page=False)
    it.end()


def outage(browser):
    it = Page(browser)
    it.expected = ["ERR_INTERNET_DISCONNECTED", "ERR_NETWORK"]
    page = it.enter()
    it.context.set_offline(True)
    expect(page.locator("#trouble")).to_contain_text("Fender does not answer. Trying again every")
    expect(page.locator("#upstreams tbody tr")).to_have_count(3)
    it.context.set_offline(False)
    expect(page.locator("#trouble")).to_be_hidden(timeout=40_000)
    # Hidden, it asks nothing.
    hide = "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true }); document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    page.wait_for_timeout(1_000)  # What was on its way may end.
    asked = len(it.asked)
    page.wait_for_timeout(5_000)
    assert len(it.asked) == asked, it.asked[asked:]
    page.evaluate(hide, False)
    with page.expect_request("**/api/v1/overview"):
        pass
    it.end()


def viewer(browser):
    park_letters(2)
    it = Page(browser)
    it.expected = ["/api/v1/requests/"]
    page = it.enter(VIEWER)
    expect(page.locator("#freshness")).to_contain_text("eyes, viewer")
    expect(page.locator("#letters tbody tr")).to_have_count(2)
    expect(page.get_by_role("button", name="Replay all…")).to_be_disabled()
    expect(page.get_by_role("button", name="Discard all…")).to_be_disabled()
    page.locator("#letters tbody tr").first.get_by_role("button").click()
    dialog = page.locator("#detail")
    expect(dialog).to_contain_text("nobody knows")
    assert dialog.get_by_role("button").all_text_contents() == ["Close"]
    page.keyboard.press("Escape")
    page.get_by_role("button", name="openai", exact=True).click()
    expect(dialog.get_by_role("table", name="Breakers")).to_be_visible()
    assert dialog.get_by_role("button").all_text_contents() == ["Close"]
    it.end()


def half_open(browser):
    """One that waits for a request to try, and one whose try is under way."""
    it = Page(browser)
    page = it.enter()
    breakers = page.request.get(f"{ADMIN}/api/v1/breakers", headers={"authorization": f"Bearer {OPERATOR}"}).json()["breakers"]
    for probes, says in ((0, "no probe is on its way: the next request is one"), (1, "1 probe on the way"), (2, "2 probes on the way")):
        told = [{**each, "state": "half_open", "probes": probes} if each["upstream"] == "openai" else each for each in breakers]
        page.route("**/api/v1/breakers", lambda route, _, told=told: route.fulfill(json={"breakers": told}))
        expect(page.locator("#wrong")).to_contain_text("openai: breaker half open")
        expect(page.locator("#wrong")).to_contain_text(says)
        page.unroute_all()
    it.end()


def by_hand(browser):
    """Breakers are forced and let go, by the keyboard alone, after a question."""
    it = Page(browser)
    page = it.enter()
    dialog, question = page.locator("#detail"), page.get_by_role("alertdialog")
    page.get_by_role("button", name="openai", exact=True).focus()
    page.keyboard.press("Enter")
    group = dialog.get_by_role("group", name="Breaker of the upstream, by hand")
    assert group.get_by_role("button").all_text_contents() == ["Force open…", "Force closed…"]
    group.get_by_role("button", name="Force open…").focus()
    page.keyboard.press("Enter")
    expect(question).to_have_accessible_name("Force open: openai?")
    expect(question).to_contain_text("refuses every request until another word")
    expect(question.get_by_role("button", name="Cancel")).to_be_focused()
    it.accessible("a question about a breaker")
    page.keyboard.press("Enter")
    expect(question).to_be_hidden()
    assert ask(f"{SERVER}/openai/ok") == 200, "nothing has been done"

    for word, yes, mark, said, status, others in (
        ("Force open…", "Force open", "forced open", "The breaker of openai is forced open.", 503, ["Force closed…", "By itself again…"]),
        ("Force closed…", "Force closed", "forced closed", "The breaker of openai is forced closed.", 200, ["Force open…", "By itself again…"]),
        ("By itself again…", "Leave to itself", "closed", "The breaker of openai decides by itself again.", 200, ["Force open…", "Force closed…"]),
    ):
        group.get_by_role("button", name=word).focus()
        page.keyboard.press("Enter")
        expect(question.get_by_role("button", name="Cancel")).to_be_focused()
        page.keyboard.press("Tab")
        expect(question.get_by_role("button", name=yes, exact=True)).to_be_focused()
        page.keyboard.press("Space")
        expect(page.get_by_role("status")).to_have_text(said)
        expect(dialog.get_by_role("table", name="Breakers").locator(".mark")).to_have_text(mark)
        expect(page.locator("#detail-title")).to_be_focused()
        assert group.get_by_role("button").all_text_contents() == others
        assert ask(f"{SERVER}/openai/ok") == status
        it.accessible(mark)
        it.shot(f"by-hand-{mark.replace(' ', '-')}", full_page=False)
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="openai", exact=True)).to_be_focused()
    # One that is switched off obeys no word.
    page.get_by_role("button", name="whatsapp", exact=True).click()
    expect(dialog.get_by_role("table", name="Breakers")).to_contain_text("switched off")
    assert dialog.get_by_role("button").all_text_contents() == ["Close"]
    it.end()


def report(browser):
    for _ in range(9):
        assert ask(f"{SERVER}/slack/ok") == 200
    open_breaker()
    park_letters(2)
    it = Page(browser)
    page = it.enter()
    rows = page.locator("#report tbody tr")
    expect(rows).to_have_count(3)
    slack = rows.filter(has_text="slack")
    expect(slack).to_contain_text("9 requests")
    expect(slack).to_contain_text("100%")
    expect(rows.filter(has_text="whatsapp")).to_contain_text("2 kept")
    expect(rows.filter(has_text="openai")).to_contain_text("1 time")
    expect(page.locator("#report-known")).to_contain_text("Known since")
    with page.expect_response("**/api/v1/report?window=7d") as week:
        page.locator('label[for="window-7d"]').click()
    assert week.value.json()["window"] == "7d"
    expect(rows).to_have_count(3)
    it.end()


def main():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    # Within a container there is no sandbox to be had; what it opens here is the test's own page.
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments, timeout=60_000)
        try:
            globals()[PART](browser)
        finally:
            browser.close()
    print("fine")


main()
