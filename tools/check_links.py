"""Check the internal links, images and anchors of the built documentation:

    python tools/check_links.py site

External links are only counted, so the check needs no network.
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
    """One line for each broken link, and the number of external links."""
    pages = {path: _parse_page(path) for path in sorted(site.rglob("*.html"))}
    problems, external_count = [], 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                external_count += parts.scheme in ("http", "https", "")
                continue
            problem = _link_problem(site, path, unquote(parts.path), unquote(parts.fragment), pages)
            if problem:
                problems.append(f"{path.relative_to(site)}: {link}: {problem}")
    return problems, external_count


def _parse_page(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _link_problem(site: Path, path: Path, target: str, fragment: str, pages: dict[Path, _Page]) -> str | None:
    """Why the link from page ``path`` to ``target#fragment`` is broken, or None."""
    file = path if not target else site / target.lstrip("/") if target.startswith("/") else path.parent / target
    file = file.resolve()
    if file.is_dir():
        file = file / "index.html"
    if not file.exists():
        return "no such file"
    if fragment and file in pages and fragment not in pages[file].anchors and not fragment.startswith("__"):
        return "no such anchor"
    return None


if __name__ == "__main__":
    lines, external_count = broken_links(Path(sys.argv[1]).resolve())
    print("\n".join(lines) or f"no broken links; {external_count} external links not checked")
    sys.exit(bool(lines))
