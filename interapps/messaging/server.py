"""A chat room: HTTP in, server-sent events out, the conversation kept as JSON lines. See README.md."""

import asyncio
import json
import os
import re
import signal
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PAGE = Path(__file__).with_name("index.html").read_bytes()
MAX_BODY = 8192
MAX_TEXT = 2000
STATUS = {200: "OK", 201: "Created", 400: "Bad Request", 404: "Not Found", 413: "Content Too Large"}


class Room:
    """The conversation: in memory for readers, appended to a file for the next start."""

    def __init__(self, path):
        self.path = path
        self.messages = []
        self.news = asyncio.Condition()
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    self.messages.append(json.loads(line))
                except ValueError:
                    continue  # the last line of a process that was killed while writing

    async def post(self, sender, text):
        message = {
            "id": len(self.messages) + 1,
            "from": sender,
            "text": text,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with self.path.open("a") as file:
            file.write(json.dumps(message) + "\n")
        self.messages.append(message)
        async with self.news:
            self.news.notify_all()
        return message

    async def wait(self, after):
        """Return the messages after this id, waiting up to 20 s for one."""
        async with self.news:
            try:
                await asyncio.wait_for(self.news.wait_for(lambda: len(self.messages) > after), 20)
            except TimeoutError:
                return []
        return self.messages[after:]


def answer(status, body, kind="application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} {STATUS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\nX-Content-Type-Options: nosniff\r\n\r\n"
    return head.encode() + data


def read_message(body):
    """Return (from, text) of a posted message, or None when it is not one."""
    try:
        data = json.loads(body)
        sender, text = str(data["from"]).strip()[:40], str(data["text"]).strip()
    except (ValueError, KeyError, TypeError):
        return None
    return (sender, text) if sender and 0 < len(text) <= MAX_TEXT else None


async def handle(room, reader, writer):
    """Serve one connection, request after request."""
    try:
        while True:
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).decode("latin-1")
            method, target, _ = head.split("\r\n", 1)[0].split(" ", 2)
            found = re.search(r"(?im)^content-length:\s*(\d+)", head)
            length = int(found.group(1)) if found else 0
            if length > MAX_BODY:
                writer.write(answer(413, {"error": "A message has at most 8 kB."}))
                break
            body = await asyncio.wait_for(reader.readexactly(length), 30)
            url = urlsplit(target)
            after = max(0, int("0" + re.sub(r"\D", "", parse_qs(url.query).get("after", ["0"])[0])[:9]))
            if (method, url.path) == ("GET", "/stream"):
                await stream(room, writer, after)
                break
            writer.write(await respond(room, method, url.path, after, body))
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
        pass  # the client left, or speaks something else than HTTP
    except asyncio.CancelledError:
        pass  # the server stops
    finally:
        writer.close()


async def respond(room, method, path, after, body):
    if (method, path) == ("GET", "/"):
        return answer(200, PAGE, "text/html; charset=utf-8")
    if (method, path) == ("GET", "/healthz"):
        return answer(200, {"ok": True})
    if (method, path) == ("GET", "/messages"):
        return answer(200, room.messages[after:][:500])
    if (method, path) == ("POST", "/messages"):
        message = read_message(body)
        if message is None:
            return answer(400, {"error": f"Send JSON with `from` and `text`, at most {MAX_TEXT} characters."})
        return answer(201, await room.post(*message))
    return answer(404, {"error": "There is nothing here by that name."})


async def stream(room, writer, after):
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    while not writer.is_closing():
        messages = await room.wait(after)
        writer.write(
            "".join(f"id: {m['id']}\ndata: {json.dumps(m)}\n\n" for m in messages).encode() or b": still here\n\n"
        )
        await writer.drain()
        after += len(messages)


async def main():
    room = Room(Path(os.environ.get("DATA_DIR", "/data")) / "messages.jsonl")
    server = await asyncio.start_server(lambda r, w: handle(room, r, w), "0.0.0.0", int(os.environ.get("PORT", "8080")))
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    print("listening", server.sockets[0].getsockname(), flush=True)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
