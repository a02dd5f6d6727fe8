"""An aiohttp application for aiohttp's own worker class."""

import asyncio
import os
import time
from pathlib import Path

from aiohttp import web


async def pid(request):
    """Say which process answers."""
    return web.Response(text=str(os.getpid()))


async def slow(request):
    """Answer when the gate is open."""
    Path("begun").touch()
    while not Path("gate").exists():
        await asyncio.sleep(0.01)
    return web.Response(text=str(os.getpid()))


async def note(request):
    """Note that the request has begun, then answer."""
    token = request.match_info["token"]
    with open("noted", "a") as file:
        file.write(f"{token}\n")
    await asyncio.sleep(0.02)
    return web.Response(text=token)


async def block(request):
    """Hold the loop up for longer than the time-out."""
    time.sleep(60)  # noqa: ASYNC251
    return web.Response()


async def echo(request):
    """Give the body back."""
    return web.Response(body=await request.read())


app = web.Application(client_max_size=1 << 24)
app.add_routes([
    web.get("/pid", pid), web.get("/slow", slow), web.get("/note/{token}", note), web.get("/block", block),
    web.post("/echo", echo),
])
