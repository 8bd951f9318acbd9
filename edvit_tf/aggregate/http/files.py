"""The files of the page, as they lie in `page/`, with what a browser may do with them.

Nothing is loaded from elsewhere, no script stands in the page itself, and no text becomes HTML: a
label or a file's name cannot run anything.
"""

import hashlib
import importlib.resources

from starlette.responses import Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "LICENSE": "text/plain; charset=utf-8",
}
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(self), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # asked for each time, and sent where it has changed
}


def page_files() -> dict[str, Response]:
    """By name, e.g. "index.html": the answer that shows it."""
    folder = importlib.resources.files("edvit_tf.aggregate.http") / "page"
    found = {}
    for path in [*folder.iterdir(), *(folder / "vendor").iterdir()]:
        if path.is_file():
            data = path.read_bytes()
            kind = _TYPES[path.name.rpartition(".")[2]]
            etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            headers = {**_HEADERS, "content-type": kind, "etag": etag}
            found[path.name] = Response(data, headers=headers)
    return found
