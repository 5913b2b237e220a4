"""``mailstream serve`` over a real deployment: its page in headless Chromium, its API under schemathesis."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, expect, sync_playwright

from cli.pipeline import Pipeline
from devstack.stack import Stack
from tests.commands import command
from tests.pipelines import pipeline, settle

pytestmark = pytest.mark.timeout(600)

WAIT_MILLISECONDS = 60_000
SERIOUS = {"serious", "critical"}
# What a mail may try: each would call alert, load something, or leave the text it stands in.
XSS = """<script>alert('script')</script>
<img src=x onerror="alert('img')"><svg/onload=alert('svg')><iframe srcdoc="<script>alert('frame')</script>">
<a href="javascript:alert('href')">click</a><body onload=alert('body')><details open ontoggle=alert('toggle')>
"><script>alert('quoted')</script>'"--></style></script><script>alert('closed')</script>
<math><mtext></form><form><mglyph><style></math><img src onerror=alert('mutation')>
{{constructor.constructor('alert(1)')()}} ${alert('template')} &lt;script&gt;alert('entity')&lt;/script&gt;
<link rel=stylesheet href=https://evil.example/x.css><meta http-equiv=refresh content="0;url=https://evil.example/">
<base href=https://evil.example/><object data=https://evil.example/x></object>"""
HARBOUR = 30
EXAMPLES = os.environ.get("SCHEMA_EXAMPLES", "10")


def _mails() -> list[EmailMessage]:
    mails = []
    for number in range(HARBOUR):
        mail = EmailMessage()
        mail["From"] = f"Robot {number % 3} <robot-{number % 3}@example.com>"
        mail["Subject"] = f"Harbour report {number}"
        mail.set_content(f"The harbour gauge {number} reads {number * 37 % 991} millimetres.")
        if number == 3:
            annex = "annex\n\nThe quay wall needs granite from Bohus."
            mail.add_attachment(annex.encode(), maintype="text", subtype="plain", filename="quay-wall.txt")
        mails.append(mail)
    hostile = EmailMessage()
    hostile["From"] = "\"<img src=x onerror=alert('sender')>\" <evil@example.com>"
    hostile["Subject"] = "<script>alert('subject')</script> xylophone"
    hostile.set_content(f"xylophone {XSS}")
    hostile.add_attachment(
        f"xylophone annex {XSS}".encode(),
        maintype="text",
        subtype="plain",
        filename="<b onclick=alert(1)>.txt",
    )
    mails.append(hostile)
    for number, mail in enumerate(mails):
        mail["To"] = "anna@example.com"
        mail["Date"] = f"Mon, {1 + number % 28:02} Jan 2024 10:00:00 +0000"
        mail["Message-ID"] = f"<{number}@example.com>"
    return mails


@pytest.fixture(scope="module")
def running(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    directory = tmp_path_factory.mktemp("run")
    mail = directory / "mail.mbox"
    mail.write_bytes(b"".join(b"From x\n" + each.as_bytes() + b"\n\n" for each in _mails()))
    with pipeline(mail, directory, stack=stack) as made:
        made.start("source", "extract", "index")
        settle(made)
        yield made


@pytest.fixture(scope="module")
def address(running: Pipeline) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "serve", "--port", "0"],
        env={
            **os.environ,
            **running.environment,
            "PYTHONUNBUFFERED": "1",
            "SERVE_REQUESTS_PER_MINUTE": "100000",
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield line.split()[-1]
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture(scope="module")
def token(running: Pipeline) -> str:
    code, output, errors = command(running, "token", "create", "the browser", "--all-mailboxes", "--json")
    assert code == 0, errors
    return str(json.loads(output)["token"])


@pytest.fixture(scope="module")
def browser(address: str, token: str) -> Iterator[Browser]:
    # After what needs an event loop of its own: from here on Playwright has one.
    del address, token
    chromium = shutil.which("chromium")
    assert chromium is not None, "install the package chromium"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]  # root, and a small /dev/shm
        opened = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


class Watched:
    """A page, and everything that it should not do."""

    def __init__(self, page: Page, own: str) -> None:
        self.page = page
        self.dialogs: list[str] = []
        self.strangers: list[str] = []
        self.errors: list[str] = []
        self._own = own
        page.on("dialog", self._dialog)
        page.on("request", self._request)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)

    def _dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        if not request.url.startswith(self._own):
            self.strangers.append(request.url)

    def _console(self, line: ConsoleMessage) -> None:
        if "Security" in line.text:  # something that the policy forbids was tried
            self.errors.append(line.text)


@pytest.fixture
def watched(browser: Browser, address: str, token: str) -> Iterator[Watched]:
    """Signed in, on the empty page."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(WAIT_MILLISECONDS)
    expect.set_options(timeout=WAIT_MILLISECONDS)
    seen = Watched(page, address)
    page.goto(address)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#sign-in")).to_be_hidden()  # until then it would show what its address says, again
    expect(page.locator("#summary")).to_contain_text("Ask for words")
    yield seen
    assert (seen.dialogs, seen.strangers, seen.errors) == ([], [], [])
    context.close()


def _search(page: Page, words: str) -> None:
    page.locator("#query").fill(words)
    page.locator("#query").press("Enter")


def _serious(page: Page) -> list[str]:
    violations = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {[node['html'][:120] for node in each['nodes']]}"
        for each in violations
        if each["impact"] in SERIOUS
    ]


def test_a_search_a_facet_and_a_message(watched: Watched) -> None:
    page = watched.page
    _search(page, "granite")
    hit = page.locator(".hit").first
    expect(hit).to_contain_text("Harbour report 3")
    expect(hit.locator(".place")).to_contain_text("quay-wall.txt")
    expect(hit.locator("mark").first).to_have_text("granite")
    hit.click()
    message = page.locator("#message")
    expect(message.locator("h1")).to_have_text("Harbour report 3")
    expect(message.get_by_text("Open in Gmail")).to_have_attribute("href", re.compile("rfc822msgid"))
    message.locator("summary").click()
    expect(message.locator("details pre")).to_contain_text("granite from Bohus")
    page.locator("#mode").select_option("keyword")
    _search(page, "harbour gauge")
    page.locator("#facets button", has_text="Robot 1").click()
    expect(page.locator("#query")).to_have_value("harbour gauge from:robot-1@example.com")
    expect(page.locator("#summary")).to_contain_text("10 messages")
    page.go_back()
    expect(page.locator("#query")).to_have_value("harbour gauge")


def test_the_keyboard_is_enough(watched: Watched) -> None:
    page = watched.page
    page.locator("body").press("/")
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.type("harbour")
    page.keyboard.press("Enter")
    expect(page.locator(".hit").nth(1)).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    second = page.locator(".hit").nth(1)
    expect(second).to_be_focused()
    subject = second.locator(".subject").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("#message h1")).to_have_text(subject)
    page.keyboard.press("Escape")
    expect(page.locator("#message")).to_be_hidden()
    expect(second).to_be_focused()


def test_every_page_of_results_is_reached(watched: Watched) -> None:
    page = watched.page
    page.locator("#mode").select_option("keyword")
    _search(page, "harbour")
    expect(page.locator(".hit")).to_have_count(20)
    page.get_by_role("button", name="More results").click()
    expect(page.locator(".hit")).to_have_count(HARBOUR)
    expect(page.get_by_role("button", name="More results")).to_be_hidden()
    keys = page.locator(".hit").evaluate_all("hits => hits.map(hit => hit.dataset.key)")
    assert len(set(keys)) == HARBOUR


def test_what_goes_wrong_is_said(watched: Watched) -> None:
    page = watched.page
    _search(page, "before:yesterdayish")
    expect(page.locator("#problem")).to_contain_text("^")
    page.locator("#mode").select_option("keyword")
    _search(page, "zzzqqqxxx")
    expect(page.locator("#summary")).to_contain_text("Nothing found")
    page.route("**/api/v1/**", lambda route: route.abort())
    _search(page, "harbour")
    expect(page.locator("#problem")).to_contain_text("The server does not answer")
    page.unroute("**/api/v1/**")
    _search(page, "harbour")
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.locator("#problem")).to_be_hidden()


def test_a_wrong_token_is_refused_and_signing_out_forgets(browser: Browser, address: str, token: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}/?q=harbour")
    page.get_by_label("Token").fill("mst_nonsense")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#sign-in-problem")).not_to_be_empty()
    assert page.locator(".hit").count() == 0
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".hit").first).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.close()


def test_html_of_a_mail_is_shown_as_text(watched: Watched) -> None:
    page = watched.page
    _search(page, "xylophone")
    hit = page.locator(".hit").first
    expect(hit.locator(".subject")).to_contain_text("<script>alert('subject')</script>")
    hit.click()
    message = page.locator("#message")
    expect(message.locator("pre").first).to_contain_text("<script>alert('script')</script>")
    message.locator("summary").click()
    expect(message.locator("details pre")).to_contain_text("<iframe srcdoc=")
    assert message.locator("script, img, svg, iframe, object, form, link, meta, base").count() == 0
    assert page.locator("#results").locator("script, img, svg, iframe").count() == 0


# By what the page's policy calls it: what a mail would do, were it once not shown as text.
FORBIDDEN = {
    "script-src-attr": "<p onclick=alert('attribute')>",
    "style-src-elem": "<link rel=stylesheet href=https://evil.example/x.css>",
    "img-src": "<img src=https://evil.example/x.png onerror=alert('image')>",
    "frame-src": "<iframe src=https://evil.example/></iframe>",
    "object-src": "<object data=https://evil.example/x></object>",
    "base-uri": "<base href=https://evil.example/>",
}


def test_what_gets_into_the_page_all_the_same_runs_and_loads_nothing(watched: Watched) -> None:
    page = watched.page
    page.evaluate(
        """html => {
            window.refused = new Set();
            document.addEventListener("securitypolicyviolation", e => refused.add(e.effectiveDirective));
            document.getElementById("summary").innerHTML = html;
            document.querySelector("#summary [onclick]").click();
        }""",
        "".join(FORBIDDEN.values()),
    )
    page.wait_for_function("wanted => wanted.every(each => refused.has(each))", arg=list(FORBIDDEN))
    assert watched.dialogs == []
    watched.strangers.clear()  # asked for, and refused by the browser
    watched.errors.clear()


def test_the_status_shows_every_mailbox(watched: Watched) -> None:
    page = watched.page
    page.get_by_role("button", name="Status").click()
    row = page.locator("#status-body tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text(f"{HARBOUR + 1} of {HARBOUR + 1}")
    expect(row).to_contain_text("following")
    expect(page.locator("#status-body")).to_contain_text("text: 2")
    expect(page.locator("#syncing")).to_be_hidden()


def test_a_mailbox_that_is_being_read_is_said_to_be(watched: Watched) -> None:
    page = watched.page
    page.route(
        "**/api/v1/status",
        lambda route: route.fulfill(json={**route.fetch().json(), "progress": 0.625}),
    )
    page.reload()
    expect(page.locator("#syncing")).to_contain_text("Still syncing: 62 %")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everybody_can_use_it(watched: Watched, scheme: str, width: int, tmp_path: Path) -> None:
    page = watched.page
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 800})
    assert _serious(page) == []
    _search(page, "granite")
    expect(page.locator(".hit").first).to_be_visible()
    assert _serious(page) == []
    page.locator(".hit").first.click()
    expect(page.locator("#message h1")).to_be_visible()
    assert _serious(page) == []
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "a phone must not scroll sideways"
    if width < 700:
        expect(page.locator("#found")).to_be_hidden()
    for name in ("Help", "Status"):
        page.get_by_role("button", name=name, exact=True).click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert _serious(page) == []
        page.get_by_role("button", name="Close").click()
    directory = os.environ.get("SCREENSHOTS")
    page.screenshot(path=Path(directory or tmp_path) / f"page-{width}-{scheme}.png")


def test_nothing_that_the_schema_allows_is_a_server_error(address: str, token: str, tmp_path: Path) -> None:
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/api/v1/openapi.json"),
            *("--header", f"Authorization: Bearer {token}", "--checks", "not_a_server_error"),
            *("--max-examples", EXAMPLES, "--seed", "7", "--no-color", "--generation-database", "none"),
        ],
        cwd=tmp_path,  # it leaves files where it runs
        capture_output=True,
        text=True,
        timeout=1_200,
    )
    assert answer.returncode == 0, answer.stdout[-6_000:] + answer.stderr[-2_000:]
    tested = re.search(r"(\d+) generated", answer.stdout)
    assert tested is not None, answer.stdout[-3_000:]
    assert int(tested[1]) > 100, answer.stdout[-3_000:]
