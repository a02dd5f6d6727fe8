"""A FastAPI application for worker classes that others have written."""

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse


@asynccontextmanager
async def lifespan(app):
    """Leave a file at the beginning and at the end."""
    Path(f"up-{os.getpid()}").touch()
    yield
    Path(f"down-{os.getpid()}").touch()


app = FastAPI(lifespan=lifespan)


@app.get("/pid")
async def pid():
    """Say which process answers."""
    return PlainTextResponse(str(os.getpid()))


@app.get("/slow")
async def slow():
    """Answer when the gate is open."""
    Path("begun").touch()
    while not Path("gate").exists():
        await asyncio.sleep(0.01)
    return PlainTextResponse(str(os.getpid()))


@app.get("/note/{token}")
async def note(token: str):
    """Note that the request has begun, then answer."""
    with open("noted", "a") as file:
        file.write(f"{token}\n")
    await asyncio.sleep(0.02)
    return PlainTextResponse(token)


@app.get("/pieces")
async def pieces():
    """Send a piece at once, and another one when the gate is open."""

    async def both():
        yield b"first"
        while not Path("gate").exists():
            await asyncio.sleep(0.01)
        yield b"second"

    return StreamingResponse(both(), media_type="application/octet-stream")


@app.get("/block")
async def block():
    """Hold the loop up for longer than the time-out."""
    import time  # noqa: PLC0415

    time.sleep(60)  # noqa: ASYNC251


@app.post("/echo")
async def echo(request: Request):
    """Give the body back, piece by piece."""
    body = await request.body()

    async def pieces():
        for at in range(0, len(body), 1000):
            yield body[at : at + 1000]
            await asyncio.sleep(0)

    return StreamingResponse(pieces(), media_type="application/octet-stream")


@app.websocket("/ws")
async def websocket(socket: WebSocket):
    """Echo messages."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(f"{os.getpid()} {text}")
