#!/usr/bin/env python3
"""Shows the node-agent's status page on this machine: `page.py NETNS ADDRESS:PORT [LOCAL_PORT]`, until Ctrl-C.

The pod's address exists only in the cluster's network namespace. A socket stays in the namespace that it was made in:
so this listens first, and enters the namespace afterwards.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys

_CLONE_NEWNET = 0x40000000


def enter(netns: str) -> None:
    """Enter a named network namespace."""
    descriptor = os.open(f"/run/netns/{netns}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"network namespace {netns} cannot be entered (root?)")
    os.close(descriptor)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(listener: socket.socket, host: str, port: int) -> None:
    """Pass every connection on."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    async with await asyncio.start_server(connected, sock=listener) as server:
        await server.serve_forever()


def main() -> None:
    """Listen, enter, serve."""
    host, port = sys.argv[2].rsplit(":", 1)
    local_port = int(sys.argv[3]) if len(sys.argv) > 3 else 8085
    listener = socket.create_server(("127.0.0.1", local_port))
    enter(sys.argv[1])
    print(f"http://127.0.0.1:{local_port}/  (Ctrl-C ends it)", flush=True)
    asyncio.run(serve(listener, host, int(port)))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
