"""Answers with the target; writes what it has read to standard output. For uvicorn, hypercorn."""

import json
import sys


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] != "http.request":
            # The client went away before the end: nobody carries that out.
            return
        body += event.get("body", b"")
        more = event.get("more_body", False)
    target = scope["raw_path"]
    if scope["query_string"] and b"?" not in target:
        target += b"?" + scope["query_string"]
    told = {"m": scope["method"], "uh": target.hex(), "bh": body.hex()}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(target))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": target})
