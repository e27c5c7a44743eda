"""The page, and the description of the API: files of this package, and nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

_WEB = Path(__file__).parents[1] / "web"
_FRESH = {"Cache-Control": "no-cache"}  # asked for again by ETag, so that an update shows at once


class _Fresh(StaticFiles):
    def file_response(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(_FRESH)
        return response


def static_files() -> StaticFiles:
    """Serve scripts, styles and icons."""
    return _Fresh(directory=_WEB)


@router.get("/")
def page() -> FileResponse:
    """Serve the page that people search with."""
    return FileResponse(_WEB / "index.html", media_type="text/html", headers=_FRESH)


@router.get("/boards")
def boards() -> FileResponse:
    """Serve the page that boards are laid out on."""
    return FileResponse(_WEB / "boards.html", media_type="text/html", headers=_FRESH)


@router.get("/docs")
def docs() -> FileResponse:
    """Serve the page that shows the API."""
    return FileResponse(_WEB / "docs.html", media_type="text/html", headers=_FRESH)


@router.get("/favicon.ico")
def icon() -> FileResponse:
    """Serve the icon to browsers that don't read the page for it."""
    return FileResponse(_WEB / "icon.svg", media_type="image/svg+xml", headers=_FRESH)
