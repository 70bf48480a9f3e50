"""Check every link, picture and anchor of the built documentation:

    python tools/check_links.py site

What leads to another host is counted and not asked: the check needs no network.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Links and anchors of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src", "poster") and value:
                self.links.append(value)


def broken_links(site: Path) -> tuple[list[str], int]:
    """One line for each link that leads nowhere, and how many lead to other hosts."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    found, elsewhere = [], 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                elsewhere += parts.scheme in ("http", "https", "")
                continue
            problem = _problem(site, path, unquote(parts.path), unquote(parts.fragment), pages)
            if problem:
                found.append(f"{path.relative_to(site)}: {link}: {problem}")
    return found, elsewhere


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _problem(site: Path, path: Path, target: str, fragment: str, pages: dict[Path, _Page]) -> str | None:
    aimed = path if not target else site / target.lstrip("/") if target.startswith("/") else path.parent / target
    aimed = aimed.resolve()
    if aimed.is_dir():
        aimed = aimed / "index.html"
    if not aimed.exists():
        return "no such file"
    if fragment and aimed in pages and fragment not in pages[aimed].anchors and not fragment.startswith("__"):
        return "no such anchor"
    return None


if __name__ == "__main__":
    lines, others = broken_links(Path(sys.argv[1]).resolve())
    print("\n".join(lines) or f"all links within the site lead somewhere; {others} lead to other hosts")
    sys.exit(bool(lines))
