"""Refuses requests whose body is too large, before they fill the memory."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


DRAINED = 16
"""So many times what is allowed may be sent before the line is cut."""


class LimitBody:
    """ASGI middleware: answers 413 to a body of more bytes than allowed.

    Args:
        app: what is behind it.
        most: bytes.
    """

    def __init__(self, app: Any, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._most:
            await self._refuse(receive, send)
            return
        messages: list[Message] = []
        taken = 0
        while not messages or messages[-1].get("more_body", False):
            messages.append(await receive())
            taken += len(messages[-1].get("body", b""))
            if taken > self._most:
                await self._refuse(receive, send, more=messages[-1].get("more_body", False))
                return
        pending = iter(messages)

        async def replayed() -> Message:
            return next(pending, None) or await receive()

        await self._app(scope, replayed, send)

    async def _refuse(self, receive: Receive, send: Send, *, more: bool = True) -> None:
        """Let the rest of the body pass unread, as most callers only listen once they have sent it; then answer."""
        passed = 0
        while more and passed < DRAINED * self._most:
            message = await receive()
            passed += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
        told = f"the body is larger than {self._most / 2**20:g} MB; send fewer rows, or use `tunekit predict` for files"
        body = json.dumps({"detail": told}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 413, "headers": [*headers, (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": body})
