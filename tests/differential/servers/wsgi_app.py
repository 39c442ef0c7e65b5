"""Answers with the target; writes what it has read to standard output. For gunicorn."""

import json
import sys


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    if len(body) < int(environ.get("CONTENT_LENGTH") or 0):
        # gunicorn gives what came before the connection broke off; nobody carries that out.
        start_response("400 Cut Off", [("Content-Length", "0")])
        return []
    told = {"m": environ["REQUEST_METHOD"], "u": environ["RAW_URI"], "bh": body.hex()}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    answer = environ["RAW_URI"].encode("latin-1")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
