"""The demo's server: this machine only, nothing fetched, nothing uploaded, few and small requests."""

import logging
import os
from typing import Any
from urllib.parse import urlsplit

ADDRESS = "127.0.0.1"
HOSTS = frozenset({"127.0.0.1", "localhost"})
MAX_WAITING, MAX_THREADS, MAX_BODY_BYTES = 8, 16, 64_000
REFUSED_PATHS = (
    "/gradio_api/upload",
    "/gradio_api/file",
    "/gradio_api/proxy",
    "/gradio_api/stream",
    "/upload",
    "/file",
    "/proxy",
)
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:;"
    " frame-ancestors 'none'; form-action 'none'; base-uri 'self'"
)


def quiet_environment() -> None:
    """Drop settings that could share, publish or report, before gradio is imported."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    logging.getLogger("httpx").setLevel(logging.WARNING)


class OnlyHere:
    """ASGI middleware: answers only requests that name this machine as host and come from a page of it; adds
    a content policy."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse or pass on one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        refusal = refused(scope["path"], headers)
        if refusal is not None:
            status, reason = refusal
            await send(
                {
                    "type": "http.response.start",
                    "status": status,
                    "headers": [(b"content-type", b"text/plain; charset=utf-8")],
                }
            )
            await send({"type": "http.response.body", "body": reason.encode()})
            return

        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = {
                    "content-security-policy": POLICY,
                    "x-content-type-options": "nosniff",
                    "referrer-policy": "no-referrer",
                }
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.encode(), value.encode()) for name, value in added.items()),
                ]
            await send(message)

        await self.app(scope, receive, with_policy)


def refused(path: str, headers: dict[str, str]) -> tuple[int, str] | None:
    """Status and reason when a request is not answered; None when it is."""
    if _host(headers.get("host", "")) not in HOSTS:
        return 403, f"this demo answers to {' and '.join(sorted(HOSTS))} only"
    if "origin" in headers and _host(headers["origin"]) not in HOSTS:
        return 403, "this demo does not answer pages of other sites"
    length = headers.get("content-length", "0")
    if (
        not length.isdecimal()
        or int(length) > MAX_BODY_BYTES
        or "chunked" in headers.get("transfer-encoding", "").lower()
    ):
        return 413, f"requests have at most {MAX_BODY_BYTES:,} bytes"
    if path.startswith(REFUSED_PATHS):
        return 403, "this demo serves and takes no files"
    return None


def launch(page: Any, *, css: str, script: str, port: int | None, browser: bool) -> tuple[str, Any]:
    """Serve a page in the background; its address and the page. `page` is a `gradio.Blocks`."""
    from gradio.themes import Default
    from starlette.middleware import Middleware

    page.queue(max_size=MAX_WAITING, api_open=False, default_concurrency_limit=4)
    _, address, _ = page.launch(
        server_name=ADDRESS,
        server_port=port,
        share=False,
        inbrowser=browser,
        prevent_thread_lock=True,
        quiet=True,
        show_error=False,
        max_threads=MAX_THREADS,
        allowed_paths=[],
        strict_cors=True,
        mcp_server=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        footer_links=[],
        state_session_capacity=32,
        app_kwargs={
            "middleware": [Middleware(OnlyHere)],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
        theme=Default(),
        # gradio's own `css` is confined to a part of the page, and modes are classes of the body
        head=f"<style>{css}</style>",
        js=script,
    )
    return address, page


def _host(value: str) -> str | None:
    """The host's name without its port; None for what is no host."""
    try:
        return urlsplit(value if "://" in value else f"//{value}").hostname
    except ValueError:
        return None
