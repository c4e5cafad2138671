"""HTML as a browser would see it, and the strings of a figure."""

import base64
import hashlib
from html.parser import HTMLParser
from typing import Any

TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "script", "noscript"),
    *(
        "p",
        "b",
        "h1",
        "h2",
        "h3",
        "div",
        "span",
        "small",
        "br",
        "ol",
        "ul",
        "li",
        "pre",
        "details",
        "summary",
        "button",
    ),
    *("table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"),
}


class Page(HTMLParser):
    """What a browser would see: tags, attributes, scripts, text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.texts: list[str] = []
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment we did not write: {data[:60]!r}")

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        elif self._inside != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All visible text, spaces made single."""
        return " ".join(" ".join(self.texts).split())


def policy_names_exactly_the_scripts(page: Page) -> None:
    """The page's policy allows the scripts in it by their hashes, and nothing else."""
    kinds = [a.get("content") or "" for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    directives = {part.split()[0]: part.split()[1:] for part in kinds[0].split(";")}
    code = [text.encode() for attributes, text in page.scripts if "type" not in attributes]
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in code}
    assert hashes
    assert directives["default-src"] == ["'none'"]
    assert set(directives["script-src"]) == hashes
    assert not any("http" in source or source == "*" for sources in directives.values() for source in sources)


def strings(value: Any) -> list[str]:
    """All strings of a figure, keys left out."""
    if isinstance(value, str):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [text for item in values for text in strings(item)]


class Shown(HTMLParser):
    """What a browser would see of one output."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, bool]] = []
        self._open: list[tuple[str, bool]] = []
        self.feed(html)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "br":
            self._open.append((tag, "veiled" in (dict(attrs).get("class") or "").split()))

    def handle_endtag(self, tag: str) -> None:
        if tag != "br":
            assert self._open, f"closes what was never opened: {tag}"
            assert self._open.pop()[0] == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment we did not write: {data[:60]!r}")

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1][0] != "style":
            self.texts.append((data, any(veiled for _, veiled in self._open)))

    def text(self, *, veiled: bool | None = None) -> str:
        """All text, or only the blurred or the plain part."""
        return "".join(text for text, hidden in self.texts if veiled is None or hidden == veiled)
