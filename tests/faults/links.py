"""Fault proxies: TCP links that can be cut, delayed, throttled, reset in the middle of a request, or refuse; all run in one thread."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections import deque

CHUNK = 16 * 1024
#: Over how many seconds `recent` looks back.
WINDOW = 1.0


class Loop:
    """An event loop in a thread of its own, for all proxies."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)


def abort(writer):
    """Ends a connection with a reset, as a host that has lost its memory of it does."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Listener:
    """Accepts connections on a port until told to refuse them. Subclasses say what becomes of one."""

    def __init__(self, loop, port):
        self.owner, self.port, self.server, self.writers = loop, port, None, set()
        loop.run(self._listen())

    async def _listen(self):
        if self.server is None:
            self.server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=1 << 20)

    async def _refuse(self):
        if self.server is not None:
            self.server.close()
            self.server = None
            self._abort_all()

    async def _accept(self, reader, writer):
        self.writers.add(writer)
        try:
            await self.serve(reader, writer)
        except (OSError, EOFError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def serve(self, reader, writer):
        raise NotImplementedError

    def _abort_all(self):
        for writer in list(self.writers):
            abort(writer)

    def refuse(self):
        """Nobody listens any more, and what was connected is reset."""
        self.owner.run(self._refuse())

    def accept(self):
        self.owner.run(self._listen())

    def reset(self):
        """Resets every connection; new ones are accepted."""
        self.owner.loop.call_soon_threadsafe(self._abort_all)


class Link(Listener):
    """Forwards to `target`. `cut` holds everything back, as an unplugged cable does; `mute` holds back the answers only; `delay` in seconds, `rate` in bytes
    a second; `reset_after` resets after so many more bytes from the client, which is amid a request."""

    def __init__(self, loop, port, target):
        self.target = target
        self.passed = deque()
        self.resets = 0
        self.heal_now()
        super().__init__(loop, port)

    def heal_now(self):
        self.cut, self.mute, self.delay, self.rate, self.reset_after = False, False, 0.0, None, None

    def heal(self):
        self.heal_now()
        self.accept()

    def recent(self):
        """Bytes from clients within the last second."""
        now = time.monotonic()
        return sum(n for at, n in list(self.passed) if at > now - WINDOW)

    async def serve(self, reader, writer):
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers.add(to_writer)
        try:
            pumps = [asyncio.ensure_future(self.pump(reader, to_writer, True)), asyncio.ensure_future(self.pump(to_reader, writer, False))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
        finally:
            self.writers.discard(to_writer)
            to_writer.close()

    async def pump(self, reader, writer, upwards):
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if upwards:
                    now = time.monotonic()
                    self.passed.append((now, len(data)))
                    while self.passed[0][0] < now - WINDOW:
                        self.passed.popleft()
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self.rate:
                    await asyncio.sleep(len(data) / self.rate)
                while self.cut or (self.mute and not upwards):
                    await asyncio.sleep(0.05)
                if upwards and self.reset_after is not None:
                    self.reset_after -= len(data)
                    if self.reset_after < 0:
                        # What the broker gets is a part of a request, and then nothing.
                        writer.write(data[: len(data) // 2])
                        await writer.drain()
                        self.reset_after = None
                        self.resets += 1
                        self._abort_all()
                        return
                writer.write(data)
                await writer.drain()
