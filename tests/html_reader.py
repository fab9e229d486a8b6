"""Pages as a browser reads them: their tags and text, whether they stand alone, and what a real browser makes of them."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from tinyresnet.page import STYLE

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VOID = ("meta", "img", "br", "hr", "link", "input")
HOSTILE = ['<script>alert(1)</script>', '"><img src=http://x.example/a.png>', "' onerror='alert(1)", "</title></style>",
           "a\x00b\x1b[2J\u202egnp.exe", "\ud800", "&lt;b&gt;"]


class Reader(HTMLParser):
    """Tags in the order of the file, text without them; an end without its beginning is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def assert_stands_alone(text):
    """No script, no frame, no address but data: and #anchors, none in the style."""
    page = Reader(text)
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "div", "table", "tr", "th", "td",
        "figure", "img", "figcaption", "span"}
    for tag, attributes in page.tags:
        assert set(attributes) <= {"lang", "charset", "http-equiv", "content", "name", "scope", "class", "src", "alt",
                                   "width", "height"}, (tag, attributes)
        assert re.match(r"data:image/(png|jpeg);base64,|#", attributes.get("src", "#"))
    assert not re.search(r"url|@import|expression", STYLE)


def in_browser(path, profile):
    """The page as a browser without a network has it in mind; skips where there is no browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    run = subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND",
                          f"--user-data-dir={profile}", "--dump-dom", path.as_uri()],
                         capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr[-1000:]
    assert "Content Security Policy" not in run.stderr  # a refused style would be told there
    return run.stdout
