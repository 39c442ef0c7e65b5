"""Wait for the API server of the box, without filling the log while it starts.

What comes in: a session. What goes out: nothing; it returns when the server says it is ready.
Invariant: one line in the log per ``_REMIND_S`` seconds of waiting.
"""

from __future__ import annotations

import asyncio
import logging

from fsm.kube import ApiError, KubeClient

logger = logging.getLogger(__name__)

_LOOK_S = 0.03
_REMIND_S = 10.0


async def wait_for_api(client: KubeClient) -> None:
    """Return once the API server answers; for as long as it takes."""
    loop = asyncio.get_running_loop()
    remind_s = loop.time() + _REMIND_S
    while True:
        try:
            await client.raw_get("/readyz")
            return
        except ApiError as error:
            if loop.time() >= remind_s:
                logger.warning("the API server is not ready", extra={"why": str(error)})
                remind_s = loop.time() + _REMIND_S
        await asyncio.sleep(_LOOK_S)
