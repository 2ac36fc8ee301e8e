"""The web application: the page, and answers to its questions, for nobody but the browser that was given the address.

What protects it: it listens on this machine alone; a request must name this machine as its host, come from this page
(`Origin`, `Sec-Fetch-Site`) and know the token of the address; it may be so long and take so long, and no longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as WebRequest
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dln.errors import ConfigError
from dln.explorer.frames import HEARTBEAT, unpacked
from dln.explorer.page import explorer_page
from dln.explorer.question import Request
from dln.explorer.worker import BusyError, Job, Worker

HOSTS = ["127.0.0.1", "localhost"]
"""What this machine may be called."""

MOST_BODY = 16 * 1024
"""Bytes of a request."""

PATIENCE = 5.0
"""Seconds within which a request must have arrived."""

BEAT = 0.5
"""Seconds after which is looked whether a tab is still there; while it waits, it is sent a sign."""

TOKEN = "x-dln-token"
"""The header by which the page shows that it knows the token."""


def application(token: str, worker: Worker, framed: bool = False) -> Starlette:
    """Return the application.

    Args:
        token: What a request must know.
        worker: What answers.
        framed: Whether notebooks of this machine may hold the page in a cell.
    """
    html, policy = explorer_page(framed)
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    async def page(request: WebRequest) -> Response:
        if not _knows(token, request.query_params.get("token", "")):
            return PlainTextResponse("Open the address that dln explore has printed, token included.\n", 403)
        return HTMLResponse(html)

    async def submitted(request: WebRequest, figure: bool) -> tuple[Job, asyncio.Event] | Response:
        """Return the job of a request, and what rings when there is something of it; or why there is none."""
        if not _knows(token, request.headers.get(TOKEN, "")):
            return PlainTextResponse("the token is not that of this explorer: open the address it has printed\n", 403)
        if request.headers.get("content-type") != "application/json":
            return PlainTextResponse("a question is application/json\n", 415)
        try:
            body = await asyncio.wait_for(_body(request), PATIENCE)
        except TimeoutError:
            return PlainTextResponse("the question did not arrive\n", 408)
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return PlainTextResponse(f"a question has at most {MOST_BODY} bytes\n", 413)
        try:
            asked = Request.of(body)
        except ConfigError as error:
            return PlainTextResponse(f"{error}\n", 422)
        bell, loop = asyncio.Event(), asyncio.get_running_loop()

        def ring() -> None:
            with contextlib.suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(bell.set)

        try:
            return worker.submit(asked, ring, figure), bell
        except BusyError:
            return PlainTextResponse("too many tabs at once: close one, or wait\n", 503, {"Retry-After": "2"})

    async def answer(request: WebRequest) -> Response:
        job = await submitted(request, figure=False)
        if isinstance(job, Response):
            return job
        return StreamingResponse(_stream(request, *job), media_type="application/octet-stream")

    async def figure(request: WebRequest) -> Response:
        job = await submitted(request, figure=True)
        if isinstance(job, Response):
            return job
        frames = [content async for content in _stream(request, *job) if content != HEARTBEAT]
        if not frames:
            return PlainTextResponse("a newer question has taken the place of this one\n", 409)
        if frames[0].startswith(b"%PDF"):
            return Response(frames[0], media_type="application/pdf")
        return PlainTextResponse(f"{unpacked(frames[0])[0][0]['fault']}\n", 422)

    async def icon(request: WebRequest) -> Response:
        return Response(status_code=204)  # browsers ask for one

    return Starlette(
        routes=[
            Route("/", page),
            Route("/answer", answer, methods=["POST"]),
            Route("/figure", figure, methods=["POST"]),
            Route("/favicon.ico", icon),
        ],
        middleware=[
            Middleware(Headers, headers=headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS),
            Middleware(SameOrigin, framed=framed),
        ],
    )


class SameOrigin:
    """Lets through questions of this server's page alone; the page is given to whoever opens it in a window."""

    def __init__(self, app: ASGIApp, framed: bool) -> None:
        """Take what answers, and whether the page may be in a frame."""
        self.app = app
        self._places = ("document", "iframe") if framed else ("document",)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request of another origin."""
        if scope["type"] == "http":
            request = WebRequest(scope)
            own = f"http://{request.headers.get('host', '')}"
            told = request.headers
            asks, origin = request.method not in ("GET", "HEAD"), told.get("origin")
            opened = (
                not asks and told.get("sec-fetch-mode") == "navigate" and told.get("sec-fetch-dest") in self._places
            )
            near = opened or told.get("sec-fetch-site", "none") in ("same-origin", "none")
            if origin not in ((own,) if asks else (own, None)) or not near:
                refused = PlainTextResponse("only the explorer's own page may ask\n", 403)
                await refused(scope, receive, send)
                return
        await self.app(scope, receive, send)


class Headers:
    """Adds headers to every answer, refusals included."""

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        """Take what answers, and the headers."""
        self.app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with the headers."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        await self.app(scope, receive, with_headers)


def _knows(token: str, given: str) -> bool:
    """Whether a request knows the token; the comparison takes as long whatever it gives."""
    return hmac.compare_digest(token.encode(), given.encode("utf-8", "surrogateescape"))


async def _body(request: WebRequest) -> bytes | None:
    """Return what a request holds; None where it is too long, of which no more is read."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY:
            return None
    return body


async def _stream(request: WebRequest, job: Job, bell: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield frames as they come; whoever does not listen any more ends the job."""
    try:
        while job.wanted:
            over = job.over  # before the mailbox is emptied: nothing comes after
            for content in job.take():
                yield content
            if over:
                return
            bell.clear()
            if job.over or await request.is_disconnected():
                continue
            try:
                await asyncio.wait_for(bell.wait(), BEAT)
            except TimeoutError:
                if await request.is_disconnected():
                    return
                yield HEARTBEAT
    finally:
        job.cancel()
