"""Captures the packets of a Pod, on its link to the outside, through the node agent of the box.

What comes in: the box, a Pod, a port. What goes out: the bytes of a pcap file, while packets flow.

Invariant: a capture ends by itself (time and size are given to the agent), also when this process
dies.
"""

from __future__ import annotations

from pathlib import Path

from fsm.cli.errors import Failure

BYTES_MAX = 4 * 1024 * 1024


async def capture(state_dir: Path, namespace: str, pod: str, port: int, seconds: float) -> bytes:
    """Return what the Pod's link carried to or from TCP ``port`` for ``seconds``.

    Raises:
        Failure: the node agent cannot be asked, or refuses.
    """
    import aiohttp

    socket = state_dir / "node.sock"
    query = {"seconds": f"{seconds:g}", "max_bytes": str(BYTES_MAX), "port": str(port)}
    url = f"http://node/capture/{namespace}/{pod}"
    timeout = aiohttp.ClientTimeout(total=seconds + 10)
    connector = aiohttp.UnixConnector(path=str(socket))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(url, params=query) as response,
        ):
            body = await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Failure(
            f"cannot capture packets of Pod {namespace}/{pod}: {error}",
            hint=f"the node agent answers at {socket}; its log is {state_dir / 'log/node.log'}",
        ) from error
    if response.status != 200:
        words = body[:300].decode(errors="replace").strip()
        raise Failure(f"the node agent does not capture Pod {namespace}/{pod}: {words}")
    return body
