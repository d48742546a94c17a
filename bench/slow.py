"""A thousand clients that are in no hurry: one in four says nothing, one sends half of a header and a byte a second of the rest,
one a byte a second of a body, one asks for a page and does not read it. Who is closed comes again."""
import asyncio
import contextlib
import itertools
import threading
import time
import urllib.parse

PAUSE = 1.0
HEAD = b"POST /api/v1/logs HTTP/1.1\r\nHost: slow\r\nContent-Type: application/json\r\n"
KINDS = [
    (b"", b""),
    (HEAD + b"X-Slow: ", b"a" * 4_000),
    (HEAD + b"Content-Length: 4000\r\n\r\n", b" " * 4_000),
    (b"GET /api/v1/logs?limit=1000 HTTP/1.1\r\nHost: slow\r\n\r\n", b""),
]


class Slow:
    def __init__(self, url, size):
        self.where = urllib.parse.urlsplit(url)
        self.size = size
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.opened = 0

    def __enter__(self):
        self.thread.start()
        # All of them are there before anything is measured.
        while self.opened < self.size:
            time.sleep(PAUSE / 10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.all.cancel)
        self.thread.join()

    def run(self):
        self.all = self.loop.create_task(self.be_many())
        with contextlib.suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self.all)
        self.loop.close()

    async def be_many(self):
        await asyncio.gather(*(self.be_slow(number) for number in range(self.size)))

    async def be_slow(self, number):
        # Not all in one moment.
        await asyncio.sleep(PAUSE * number / self.size)
        first, drip = KINDS[number % len(KINDS)]
        while True:
            try:
                # So little is taken that an answer of a page does not fit.
                reader, writer = await asyncio.open_connection(self.where.hostname, self.where.port, limit=1_024)
                self.opened += 1
                try:
                    await self.stay(reader, writer, first, drip)
                finally:
                    writer.close()
            except OSError:
                await asyncio.sleep(PAUSE)

    async def stay(self, reader, writer, first, drip):
        writer.write(first)
        for place in itertools.count():
            await asyncio.sleep(PAUSE)
            # An answer to what drips is one that says to go.
            if drip and await self.is_answered(reader) or reader.at_eof():
                return
            writer.write(drip[place:place + 1])
            await writer.drain()

    async def is_answered(self, reader):
        try:
            await asyncio.wait_for(reader.read(1), 0.001)
        except asyncio.TimeoutError:
            return False
        return True
