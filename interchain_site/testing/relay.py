"""A wire between two network namespaces: `python -m interchain_site.testing.relay FROM TO`, each `host:port` or a path.

A socket in the file system is reached from every namespace, so two of these in a row let one side call the other and never back,
as a home's router does.
"""

from __future__ import annotations

import asyncio
import sys


async def main(listen: str, to: str) -> None:
    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await (asyncio.open_unix_connection(to) if "/" in to else asyncio.open_connection(*_split(to)))
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, there[1]), carry(there[0], writer))

    if "/" in listen:
        server = await asyncio.start_unix_server(serve, listen)
    else:
        server = await asyncio.start_server(serve, *_split(listen))
    await server.serve_forever()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
