"""The live page of an aggregator in a browser's window."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.support.worker_process import Worker


@contextlib.contextmanager
def opened(
    chromium: Any, one: Worker, width: int = 1280, scheme: str = "light"
) -> Iterator[tuple[Any, list[str]]]:
    """(page, what it complained of)."""
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
    try:
        page.goto(f"http://{one.serving['metrics']}/")
        yield page, complaints
    finally:
        page.close()
