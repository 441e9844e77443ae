"""The page at ``/ui``: what the daemon shows a person. Four fixed files, read once; nothing else can be asked for.

The files hold no data, so they are answered without the key; the script then asks the API as any client does, with the
key that the person typed in. It writes what comes from outside as text, never as markup, and the headers forbid the
page everything but its own files and its own daemon.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources

from aiohttp import web

FILES = {
    "/ui": ("index.html", "text/html; charset=utf-8"),
    "/ui/": ("index.html", "text/html; charset=utf-8"),
    "/ui/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/ui/style.css": ("style.css", "text/css; charset=utf-8"),
    "/ui/icon.svg": ("icon.svg", "image/svg+xml"),
}
PATHS = frozenset(FILES)
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def routes() -> list[web.RouteDef]:
    folder = resources.files(__name__)
    return [web.get(path, _file(folder.joinpath(name).read_bytes(), kind)) for path, (name, kind) in FILES.items()]


def _file(content: bytes, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=content, headers={**HEADERS, "Content-Type": kind})

    return answer
