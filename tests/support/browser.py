"""Chromium as a reader has it: a page opened from a file, with all that it complains of and asks
for.

The picture in the docs is made by

    python -m tests.support.browser BUNDLE docs/report.png

which draws the report of a copy of the bundle anew, with this checkout.
"""

import argparse
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Of the picture in the docs: the top of a page, and the first of its pictures.
SHOT = {"width": 1200, "height": 1500}


def missing() -> str | None:
    """Why no browser can be started here; None where one can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed (pip install playwright)"
    if executable() is None:
        return "there is no Chromium (Debian: apt-get install chromium)"
    return None


def executable() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Opened:
    """A page, and what it did since it was opened."""

    page: Any
    complaints: list[str] = field(default_factory=list)  # errors and warnings of the console
    asked: list[str] = field(default_factory=list)  # addresses other than the page's own


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    with browsers() as launch:
        yield launch()


@contextlib.contextmanager
def browsers() -> Iterator[Callable[..., Any]]:
    """`launch(*arguments)` starts a browser without a window, with these arguments of Chromium; a
    root user's runs without the sandbox, which it refuses.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started, contextlib.ExitStack() as stack:

        def launch(*arguments: str) -> Any:
            given = [*arguments, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
            browser = started.chromium.launch(executable_path=executable(), args=given)
            stack.callback(browser.close)
            return browser

        yield launch


@contextlib.contextmanager
def opened(
    browser: Any, file: Path, width: int, scheme: str, height: int = 900
) -> Iterator[Opened]:
    """A file in a window of so many pixels, in the "light" or the "dark" scheme."""
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=1
    )
    found = Opened(page)
    address = file.as_uri()
    page.on("console", lambda said: found.complaints.append(f"{said.type}: {said.text}"))
    page.on("pageerror", lambda error: found.complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (found.complaints.append("dialog"), dialog.dismiss()))

    def ask(request: Any) -> None:
        if request.url != address and not request.url.startswith("data:"):
            found.asked.append(request.url)

    page.on("request", ask)
    try:
        page.goto(address)
        yield found
    finally:
        page.close()


def main() -> None:
    from edvit_tf.report.page import write_report

    parser = argparse.ArgumentParser(description="A picture of the report of a bundle.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        bundle = shutil.copytree(args.bundle, Path(folder) / args.bundle.name)
        report = write_report(bundle)
        with opened(browser, report, SHOT["width"], "light", SHOT["height"]) as found:
            found.page.screenshot(path=args.picture)


if __name__ == "__main__":
    main()
