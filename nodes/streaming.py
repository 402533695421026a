"""Send what is large without holding it in memory, under ASGI and WSGI alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

CHUNK_BYTES = 256 * 1024


def streamed(
    request: HttpRequest, chunks: Iterator[bytes], *, content_type: str, headers: Mapping[str, str], status: int = 200
) -> StreamingHttpResponse:
    """Return a response that takes the next chunk when the last one is sent."""
    # Under ASGI Django would read a plain iterator to its end first: two gigabytes in memory.
    body: AsyncIterator[bytes] | Iterator[bytes] = chunks
    if isinstance(request, ASGIRequest):
        body = _in_threads(chunks)
    return StreamingHttpResponse(body, content_type=content_type, headers=headers, status=status)


async def _in_threads(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    try:
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk
    finally:
        close = getattr(chunks, "close", None)  # a generator holds a file open
        if close is not None:
            await asyncio.to_thread(close)
