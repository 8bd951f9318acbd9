"""TCP connections that go wrong on command: a process between an aggregator and its devices.

    python -m tests.support.chaos_proxy 8001:9001 8002:9002
        listens on 8001 for what is at 9001, and so on

Commands come on standard input, a line each: `PLACE MODE`, PLACE counting from 0. Modes: `pass`;
`silent` (nothing gets through, connections stand, as behind a pulled cable); `cut` (connections are
reset, new ones too); `corrupt` (in each piece that passes one byte is another, which TLS notices).
"""

import asyncio
import contextlib
import random
import sys


class Place:
    """One device's line."""

    def __init__(self, target: int) -> None:
        self.target, self.mode, self.writers = target, "pass", set()
        self.flows = asyncio.Event()
        self.flows.set()

    def put(self, mode: str) -> None:
        self.mode = mode
        (self.flows.clear if mode == "silent" else self.flows.set)()
        if mode == "cut":
            for writer in list(self.writers):
                writer.transport.abort()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.flows.wait()
        ends = [writer]
        try:
            if self.mode == "cut":
                return
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            ends.append(back)
            self.writers.update(ends)
            pumps = [
                asyncio.create_task(self._pump(reader, back)),
                asyncio.create_task(self._pump(there, writer)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
        except OSError:
            pass  # nobody is there
        finally:
            for end in ends:
                self.writers.discard(end)
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self.flows.wait()
                if self.mode == "corrupt":
                    changed = bytearray(data)
                    changed[random.randrange(len(data))] ^= random.randrange(1, 256)
                    data = bytes(changed)
                writer.write(data)
                await writer.drain()


async def main(pairs: list[str]) -> None:
    places, servers = [], []
    for pair in pairs:
        listen, target = map(int, pair.split(":"))
        places.append(Place(target))
        servers.append(await asyncio.start_server(places[-1].connected, "127.0.0.1", listen))
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    print("ready", flush=True)
    while line := await commands.readline():
        place, mode = line.decode().split()
        places[int(place)].put(mode)
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
