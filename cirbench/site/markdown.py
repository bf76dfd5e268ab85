"""Method cards from Markdown to HTML: what a card writes as HTML stays text, and its links lead where they say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markupsafe import Markup

from cirbench.tables.safe import visible

if TYPE_CHECKING:
    from markdown_it.token import Token

_ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)


def to_html(text: str) -> Markup:
    """Render a card; its title is left to the page, deeper headings move down by one level.

    Links that are no web addresses are shown as their text, because a card's neighbours are not part of the site.
    Pictures are left out.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    text = "\n".join(visible(line) for line in text.splitlines())
    tokens = parser.parse(text)
    if len(tokens) > 2 and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        tokens = tokens[3:]
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        if token.children:
            token.children = _without_local_links(token.children)
    rendered = parser.renderer.render(tokens, parser.options, {})
    rendered = rendered.replace("<pre>", '<pre tabindex="0">')
    boxed = rendered.replace("<table>", '<div class="box" role="region" aria-label="Table" tabindex="0"><table>')
    return Markup(boxed.replace("</table>", "</table></div>"))


def _without_local_links(tokens: list[Token]) -> list[Token]:
    kept, open_links = [], []
    for token in tokens:
        if token.type == "link_open":
            open_links.append(bool(_ABSOLUTE.match(str(token.attrGet("href")))))
            if not open_links[-1]:
                continue
        if token.type == "link_close" and not open_links.pop():
            continue
        kept.append(token)
    return kept
