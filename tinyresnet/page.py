"""A report as one HTML file that needs nothing else: no script, no network, pictures inside.

It can be sent by mail and opened in ten years. What comes from files (names, error messages) is text and never markup,
and a browser is told by a content-security policy to load nothing, should that fail.

    page = Page("What is in head_ct")
    page.heading("Sizes")
    page.table(("class", "images"), [("normal", 100), ("hemorrhage", 100)])
    page.write("audit.html")
"""

from __future__ import annotations

import html
import io
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinyresnet.files import printable, replacing

Array = NDArray

STYLE = """
body { margin: 0; color: #1a1a1a; background: #fff; font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ccc; text-align: left; vertical-align: top; }
td { white-space: nowrap; }
td.long { white-space: normal; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.warning { color: #a40000; font-weight: bold; }
figure { display: inline-block; max-width: 100%; margin: 0 1rem 1.5rem 0; vertical-align: top; }
img { display: block; max-width: 100%; height: auto; }
figcaption { max-width: 22rem; font-size: .9rem; }
"""
LONG = 60  # letters from which on a cell may have several lines
HASH = b64encode(sha256(STYLE.encode()).digest()).decode()  # of the only style that a browser may apply
TOP = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'sha256-{HASH}'">
<meta name="viewport" content="width=device-width, initial-scale=1">
"""


def escape(value: object) -> str:
    """The value as HTML text, inside an attribute, too."""
    return html.escape(printable(value), quote=True)


class Page:
    """Headings, paragraphs, tables and figures, in the order in which they are added."""

    def __init__(self, title: str) -> None:
        self.parts = [f"{TOP}<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
                      f"<h1>{escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        self.parts.append(f"<h2>{escape(text)}</h2>")

    def paragraph(self, text: str, *, warning: bool = False) -> None:
        """A warning is red and bold; let its words say that it is one, for who does not see red."""
        start = '<p class="warning">' if warning else "<p>"
        self.parts.append(f"{start}{escape(text)}</p>")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Cells that are numbers (int, float) stand to the right, as str() writes them; round before."""
        lines = ["<tr>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in head) + "</tr>"]
        lines += ["<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows]
        self.parts.append('<div class="scroll">\n<table>\n' + "\n".join(lines) + "\n</table>\n</div>")

    def figure(self, picture: bytes | Array, alt: str, caption: str = "", *, warning: str = "", zoom: float = 1) -> None:
        """A PNG or JPEG, or an image (H, W, 3) uint8, shown at this part of its size; alt is for who does not see it; the
        warning stands before the caption.
        """
        content = picture if isinstance(picture, bytes) else _png(picture)
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as header:
            (width, height), kind = (round(side * zoom) for side in header.size), (header.format or "").lower()
        warned = f'<span class="warning">{escape(warning)}</span> ' if warning else ""
        source = f"data:image/{kind};base64,{b64encode(content).decode()}"
        self.parts.append(f'<figure>\n<img src="{source}" alt="{escape(alt)}" width="{width}" height="{height}">\n'
                          f"<figcaption>{warned}{escape(caption)}</figcaption>\n</figure>")

    def write(self, path: str | Path) -> None:
        """Write the page, complete or not at all; raises OSError naming the file if it cannot be written."""
        with replacing(path) as beside:
            beside.write_text("\n".join([*self.parts, "</main>\n</body>\n</html>\n"]), encoding="utf-8")


def _cell(value: object) -> str:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    kind = ' class="number"' if number else ' class="long"' if len(str(value)) > LONG else ""
    return f"<td{kind}>{escape(value)}</td>"


def _png(image: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
