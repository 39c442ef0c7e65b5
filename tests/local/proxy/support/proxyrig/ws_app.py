"""An application of WebSocket for a server of HTTP/2: says its path and protocol, then echoes."""

from __future__ import annotations

from typing import Any


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve a socket; refuse what came over another version."""
    if scope["type"] != "websocket":
        return
    assert scope["http_version"] == "2"
    await receive()
    if scope["path"] == "/no":
        await send({"type": "websocket.close"})
        return
    chosen = next(iter(scope["subprotocols"]), None)
    await send({"type": "websocket.accept", "subprotocol": chosen})
    await send({"type": "websocket.send", "text": f"{scope['path']} {chosen}"})
    while (event := await receive())["type"] == "websocket.receive":
        answer = {k: event[k] for k in ("text", "bytes") if event.get(k) is not None}
        await send({"type": "websocket.send", **answer})
