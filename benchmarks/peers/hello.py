"""The least that uvicorn can do: read a request and answer hello."""

from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.peers.raw import lifespan

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"5")],
}
BODY = {"type": "http.response.body", "body": b"hello"}


def create() -> ASGIApp:
    """The app."""

    async def hello(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        await send(START)
        await send(BODY)

    return hello
