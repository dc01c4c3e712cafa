"""The door of a vLLM server: nobody without its key reaches any route but `/health`.

vLLM asks for its key on a few routes only; those that load weights and call worker methods stand open.  This
ASGI middleware (`--middleware`) asks for the same key, VLLM_API_KEY, everywhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from vllm import envs

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """Refuses with 401 what does not carry `Authorization: Bearer KEY`."""

    def __init__(self, app: App) -> None:
        if not envs.VLLM_API_KEY:
            raise RuntimeError("a server whose weights can be replaced needs VLLM_API_KEY")
        self._app = app
        self._expected = f"Bearer {envs.VLLM_API_KEY}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan" or scope.get("path") == "/health" or self._knows(scope):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"error": "no key, or a wrong one"}'})

    def _knows(self, scope: Scope) -> bool:
        given = dict(scope.get("headers", [])).get(b"authorization", b"")
        return secrets.compare_digest(given, self._expected)
