"""From a page's content to HTML: short names, templates and Markdown in which no foreign text can act."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from cirbench.errors import visible
from cirbench.metrics.table import METRICS, Label, parse_label, short_label
from cirbench.support.files import slug

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment
    from markdown_it.token import Token


_MOST_HEADINGS = 10


@dataclasses.dataclass(frozen=True)
class Heading:
    """A column of numbers.

    Attributes:
        label: As results have it.
        short: As a table shows it.
        text: What it is, in a sentence.
        key: What the page's address calls it.
        shown: Whether the table shows it before anybody chose.
    """

    label: str
    short: str
    text: str
    key: str
    shown: bool


def headings(labels: Sequence[str]) -> tuple[Heading, ...]:
    """Name the columns of a board.

    Where there are many, the first two cut-offs of each metric are shown, and slices at the cut-off of the headline.
    """
    first = parse(labels[0])
    cutoffs: dict[str, list[int]] = {}
    found = []
    for text in labels:
        label = parse(text)
        if label.part is None:
            cutoffs.setdefault(label.metric, []).append(label.k)
            shown = label.k in cutoffs[label.metric][:2]
        else:
            shown = (label.metric, label.k) == (first.metric, first.k)
        key = text.replace(" ", "-").replace("[", ".").replace("]", "").replace("=", ".")
        found.append(Heading(text, short_label(text), long_label(text), key, shown or len(labels) <= _MOST_HEADINGS))
    return tuple(found)


def parse(text: str) -> Label:
    """Take a label apart; one that no protocol of ours reports, such as mAP without a cut-off, as far as it goes."""
    try:
        return parse_label(text)
    except ValueError:
        metric, _, rest = text.partition("[")
        by, _, part = rest.rstrip("]").partition("=")
        return Label(metric, 0, by=by.removeprefix("mean over ") or None, part=part or None)


def long_label(text: str) -> str:
    """Say what a number is: the metric's own sentence, the cut-off, and the slice."""
    label = parse(text)
    part = f"; {label.by}: {label.part}" if label.part else f"; mean over each {label.by}" if label.by else ""
    known = METRICS.find(label.metric) if label.metric in METRICS.names() else None
    meaning = f": {known.title.rstrip('.')}" if known else ""
    return f"{_name(label, label.metric)}{meaning}{part}"


def _name(label: Label, metric: str) -> str:
    known = METRICS.find(label.metric) if label.metric in METRICS.names() else None
    return metric if label.k == 0 or (known and label.k == known.fixed_k) else f"{metric}@{label.k}"


STYLE = "style.css"
SCRIPT = "site.js"


def render(template: str, **content: Any) -> str:
    """Fill a template; every text is escaped, and its control characters are shown."""
    return _templates().get_template(template).render(content)


def static(name: str) -> str:
    """Return the text of a file that all pages share."""
    return (files("cirbench.leaderboard.site") / "static" / name).read_text(encoding="utf-8")


def script_digest() -> str:
    """Return the digest of the script in the form of a content security policy, for pages that hold it inline."""
    return "sha256-" + base64.b64encode(hashlib.sha256(static(SCRIPT).encode()).digest()).decode()


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cirbench.leaderboard.site"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(static=static, script_digest=script_digest)
    environment.filters.update(number=number, slug=slug, ordinal=ordinal, web=web, handle=handle)
    environment.filters.update(short_label=short_label, long_label=long_label)
    return environment


def _shown(value: Any) -> Any:
    """Show what would act unseen; markup that this package made passes."""
    return visible(value) if type(value) is str else value


def number(value: float | None, digits: int = 2) -> str:
    """Write a number as every table does; a dash where there is none."""
    return "–" if value is None else f"{value:z.{digits}f}"


def ordinal(count: int) -> str:
    """Write 1st, 2nd, 3rd, 4th ..., 11th."""
    ending = "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{ending}"


def web(link: str | None) -> str | None:
    """Return a link if it is a web address and nothing else; no script, no file."""
    return link if link is not None and re.fullmatch(r"https?://[\w.-]+/[^\s\"'<>]*", link, re.ASCII) else None


def handle(link: str) -> str:
    """Write a web address short: ``arXiv 2311.07622``, or its host."""
    return f"arXiv {link.rpartition('/')[2]}" if link.startswith("https://arxiv.org/") else link.split("/")[2]


_ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)


def to_html(text: str) -> Markup:
    """Render a card; its title is left to the page, deeper headings move down by one level.

    Links that are not web addresses are shown as their text, because a card's neighbours are not part of the site.
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
