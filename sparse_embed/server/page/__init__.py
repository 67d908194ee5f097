"""The playground: a static page for people at ``GET /``, which calls the same routes as any client.

Decides where its three files are and what a browser may do with them. Leaves everything on the page to its script.
"""

from collections.abc import Callable
from importlib.resources import files

from fastapi import FastAPI, Response

# Nothing inline, nothing from elsewhere, no request to another host, and no text that a script reads as markup.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}

FILES = {
    "/": ("page.html", "text/html"),
    "/playground.css": ("playground.css", "text/css"),
    "/playground.js": ("playground.js", "text/javascript"),
}


def add_page(app: FastAPI) -> None:
    """Add the routes of the page; they need no key, and the page asks for one."""
    for path, (name, media_type) in FILES.items():
        app.add_api_route(path, _serve(files(__package__).joinpath(name).read_bytes(), media_type))


def _serve(content: bytes, media_type: str) -> Callable[[], Response]:
    def serve() -> Response:
        return Response(content, media_type=media_type, headers=HEADERS)

    return serve
