"""A server of files on the loopback interface, which fails as it is told."""

import contextlib
import http.server
import re
import threading


class WebServer:
    """Serves `files`, {path: bytes}, with ranges; `misbehave` holds what the next requests meet instead.

    Attributes:
      asked: of each request, the path and the Range header.
    """

    def __init__(self):
        self.files, self.misbehave, self.asked = {}, [], []
        self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), type('Handler', (_Handler,), {'web': self}))
        self._server.daemon_threads = True
        self.address = f'http://127.0.0.1:{self._server.server_port}/'
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def serving():
    server = WebServer()
    try:
        yield server
    finally:
        server.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    web: WebServer

    def do_GET(self):
        self.web.asked.append((self.path, self.headers.get('Range')))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the other side has given up
            (self.web.misbehave.pop(0) if self.web.misbehave else whole)(self)

    @property
    def content(self):
        return self.web.files.get(self.path.lstrip('/'))

    def start(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), str(value))
        self.end_headers()

    def log_message(self, *_):
        """Says nothing."""


def whole(handler):
    """What a good server answers: the file, or the rest of it."""
    content = handler.content
    if content is None:
        return status(404)(handler)
    if given := re.fullmatch(r'bytes=(\d+)-', handler.headers.get('Range') or ''):
        first = int(given[1])
        if first >= len(content):
            return status(416)(handler)
        place = f'bytes {first}-{len(content) - 1}/{len(content)}'
        handler.start(206, Content_Length=len(content) - first, Content_Range=place)
        return handler.wfile.write(content[first:])
    return without_ranges(handler)


def without_ranges(handler):
    handler.start(200, Content_Length=len(handler.content))
    handler.wfile.write(handler.content)


def cut(after):
    """Closes the connection after so many bytes of those that it has promised."""

    def answer(handler):
        write, left = handler.wfile.write, after
        handler.close_connection = True

        def write_some(content):
            nonlocal left
            if content.startswith(b'HTTP/'):
                return write(content)
            write(content[:left])

        handler.wfile.write = write_some
        whole(handler)

    return answer


def status(code, **headers):
    return lambda handler: handler.start(code, Content_Length=0, **headers)


def to(address):
    return status(302, Location=address)


def giving(content, length=True, **headers):
    """Other bytes, with or without saying how many; the connection is closed after them."""

    def answer(handler):
        handler.start(200, **({'Content_Length': len(content)} if length else {}), **headers)
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


def silent(event):
    """Nothing, until the event is set."""
    return lambda handler: event.wait(30)


def stalling(event, after):
    """Some bytes, and then nothing until the event is set."""

    def answer(handler):
        handler.start(200, Content_Length=len(handler.content))
        handler.wfile.write(handler.content[:after])
        event.wait(30)

    return answer
