"""Stands between the worker and the real S3 server, and answers in its place what that server cannot be made to answer: an archived object, a
refused one, one that may not be read this way, one that always fails. Everything else goes through unchanged."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

#: What a key's path contains -> (status, S3's error code).
ANSWERS = {
    "/bad/archived": (403, "InvalidObjectState"),
    "/bad/denied": (403, "AccessDenied"),
    "/bad/not-allowed": (405, "MethodNotAllowed"),
    "/bad/broken": (500, "InternalError"),
}


class Proxy:
    """Listens on a port of its own until closed; `down` makes every request fail, as an outage does."""

    def __init__(self, upstream):
        self.down = False
        self.requests = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self):
                proxy.requests += 1
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                path = unquote(self.path.split("?")[0])
                answer = next((a for part, a in ANSWERS.items() if part in path), None)
                if proxy.down:
                    answer = (503, "ServiceUnavailable")
                if answer and self.command == "GET":
                    status, code = answer
                    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()
                    self.reply(status, {"Content-Type": "application/xml"}, text)
                    return
                upstream_connection = http.client.HTTPConnection(upstream, timeout=30)
                try:
                    upstream_connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        upstream_connection.putheader(name, value)
                    upstream_connection.endheaders(body)
                    response = upstream_connection.getresponse()
                    self.reply(response.status, dict(response.getheaders()), response.read())
                finally:
                    upstream_connection.close()

            def reply(self, status, headers, body):
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(name, value)
                length = headers.get("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
