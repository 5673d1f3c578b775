"""A real S3 server (versitygw) behind an HTTP fault proxy, which has one port for each worker and so knows which of them is fetching."""

import asyncio
import os
import pathlib
import random
import shutil
import time
import urllib.request

import boto3
import botocore.config

import processes
from links import Listener, abort

ACCESS, SECRET = "lakelens", "lakelens-secret"
#: What each request takes at least, so that work is in flight at nearly all times.
PACE = 0.05


class Gateway(Listener):
    """One worker's way to the server. `mode` is one of the faults below, and strikes a `share` of the requests."""

    MODES = ("storm", "slow", "truncate", "reset", "refuse")

    def __init__(self, loop, port, target, seed):
        self.target, self.rng = target, random.Random(seed)
        self.open = 0
        self.asked = 0.0
        self.struck = 0
        self.mode, self.share = None, 0.0
        super().__init__(loop, port)

    def busy(self, since):
        """Whether a picture was asked for within the last half second, by whoever started at `since`."""
        return self.asked > since and time.monotonic() - self.asked < 0.5

    def fault(self, mode, share):
        self.mode, self.share = mode, share
        if mode == "refuse":
            self.struck += self.open
            self.refuse()

    def heal(self):
        self.mode = None
        self.accept()

    async def serve(self, reader, writer):
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            while head := await self.head(reader):
                body = await reader.readexactly(self.length(head))
                self.open += 1
                self.asked = time.monotonic()
                try:
                    await asyncio.sleep(PACE)
                    up_writer.write(head + body)
                    if not await self.answer(head, up_reader, writer):
                        return
                finally:
                    self.open -= 1
        finally:
            up_writer.close()

    async def answer(self, request, up_reader, writer):
        """Passes one answer on, or breaks it; whether the connection lives on."""
        head = await self.head(up_reader)
        has_body = not request.startswith(b"HEAD ")
        body = await up_reader.readexactly(self.length(head)) if has_body else b""
        mode = self.mode if self.mode and self.rng.random() < self.share else None
        if mode:
            self.struck += 1
        if mode == "storm":
            text = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
            head = b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(text)
            body = text if has_body else b""
        elif mode == "slow":
            writer.write(head)
            for start in range(0, len(body), 1 + len(body) // 8):
                writer.write(body[start : start + 1 + len(body) // 8])
                await writer.drain()
                await asyncio.sleep(0.25)
            return True
        elif mode == "truncate":
            writer.write(head + body[: len(body) // 2])
            await writer.drain()
            return False
        elif mode == "reset":
            writer.write(head + body[: len(body) // 2])
            await writer.drain()
            abort(writer)
            return False
        writer.write(head + body)
        await writer.drain()
        return True

    @staticmethod
    async def head(reader):
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as end:
            if end.partial:
                raise
            return b""

    @staticmethod
    def length(head):
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                return int(value)
        return 0


class Inside:
    """The same faults made inside a worker, by its failpoints, which read what to do from a file."""

    def __init__(self, file, gateway):
        self.file, self.gateway = file, gateway
        self.heal()

    @property
    def open(self):
        return self.gateway.open

    @property
    def struck(self):
        struck = self.file.with_name(self.file.name + ".struck")
        return struck.stat().st_size if struck.exists() else 0

    def fault(self, mode, share):
        self.file.write_text(f"{mode} {share}")

    def heal(self):
        self.file.write_text("")


class PictureServer:
    def __init__(self, folder, loop, workers, seed):
        binary = shutil.which("versitygw") or str(pathlib.Path(os.environ.get("GOPATH", pathlib.Path.home() / "go")) / "bin/versitygw")
        self.port, *ports = processes.free_ports(1 + workers)
        data = folder / "s3"
        data.mkdir()
        command = [binary, "--quiet", "--port", f"127.0.0.1:{self.port}", "--access", ACCESS, "--secret", SECRET, "--health", "/health", "posix", data]
        self.process = processes.spawn(command, folder / "s3.log")
        self.endpoint = f"http://127.0.0.1:{self.port}"
        processes.wait_until("the S3 server", self._answers)
        self.gateways = [Gateway(loop, port, self.port, seed + n) for n, port in enumerate(ports)]

    def _answers(self):
        try:
            return urllib.request.urlopen(f"{self.endpoint}/health", timeout=2).status == 200
        except OSError:
            return False

    def upload(self, bucket, objects):
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            config=botocore.config.Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=bucket)
        for key, body in objects:
            client.put_object(Bucket=bucket, Key=key, Body=body)

    def close(self):
        processes.stop(self.process)
