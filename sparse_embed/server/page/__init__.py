"""The playground: a static page for people at ``GET /``, which calls the same routes as any client.

Decides where its three files are and what a browser may do with them. Leaves everything on the page to its script.
"""

from importlib.resources import files

from fastapi import APIRouter, Response

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

router = APIRouter()


@router.get("/")
def page() -> Response:
    """The page; it is served without a key, and asks for one."""
    return _file("page.html", "text/html")


@router.get("/playground.css")
def style() -> Response:
    """How it looks."""
    return _file("playground.css", "text/css")


@router.get("/playground.js")
def script() -> Response:
    """What it does."""
    return _file("playground.js", "text/javascript")


def _file(name: str, media_type: str) -> Response:
    return Response(files(__package__).joinpath(name).read_bytes(), media_type=media_type, headers=HEADERS)
