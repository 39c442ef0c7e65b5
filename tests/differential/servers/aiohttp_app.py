"""Answers with the target; writes what it has read to standard output. aiohttp's own server."""

import asyncio
import json
import sys

from aiohttp import web


async def serve(request):
    body = await request.read()
    told = {"m": request.method, "u": request.raw_path, "bh": body.hex()}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    return web.Response(text=request.raw_path)


async def main():
    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    await asyncio.Event().wait()


asyncio.run(main())
