"""The documentation: the OpenAPI document, and pages to try it out, all from local files."""

import re
from base64 import b64encode
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from app.api.answers import answer
from app.api.openapi import document
from app.files import Files

STATIC = "/docs/static"
PARTS = files("fastapi_offline") / "static"
INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

router = APIRouter(include_in_schema=False)


def install(app: FastAPI) -> None:
    app.state.openapi = cache(partial(document, app))
    app.include_router(router)
    app.mount(STATIC, Files(directory=str(PARTS)))


@router.get("/openapi.json")
async def openapi_json(request: Request) -> Response:
    return answer(request.app.state.openapi())


@router.get("/docs")
async def interactive(request: Request) -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=f"{request.app.title}: documentation",
        swagger_js_url=f"{STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{STATIC}/favicon.png",
        swagger_ui_parameters={"validatorUrl": None},
    )
    page.headers["Content-Security-Policy"] = policy(bytes(page.body))
    return page


def policy(page: bytes) -> str:
    """Nothing from elsewhere, and of what is written into the page only exactly that."""
    hashes = " ".join(f"'sha256-{b64encode(sha256(script).digest()).decode()}'" for script in INLINE.findall(page))
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
