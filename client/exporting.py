"""The verb of featurekeyctl that brings metrics out: printed, into a file, or served to a Prometheus on request.

The exporter is a process of its own, because the daemon keeps to its Unix socket. It asks the daemon when it is asked,
keeps nothing, answers any path, and has a bound on all that a stranger could take: requests at once, and their time.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, ClassVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import click

from .call import CallError, Connection
from .console import complain, out, out_json
from .exits import DONE, FileTrouble, sentence, status_of
from .session import MAX_REPLY, Session, examples, json_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from .metrics import Collector

USUAL_LISTEN = "127.0.0.1:9852"
"""Where the exporter listens when nothing else is said: this host alone can reach it."""

MAX_REQUESTS = 8
"""Requests that are answered at once: a Prometheus sends one, two of them two, and a browser some."""

REQUEST_SECONDS = 10.0
"""Seconds for one step of a request, and for the daemon's answer."""

WHOLE_SECONDS = 20.0
"""Seconds for a whole request, however it trickles in: as long as a slow client and a slow daemon may take together."""

ROOM_SECONDS = 0.5
"""Seconds for which a request waits for the place of one that was cut off, which ends at once as a rule."""


@click.command(
    short_help="Metrics for Prometheus.",
    epilog=examples(
        "featurekeyctl metrics",
        "featurekeyctl metrics --textfile /var/lib/prometheus/node-exporter/featurekeyd.prom",
        f"featurekeyctl metrics --listen {USUAL_LISTEN}",
    ),
)
@click.option("--textfile", metavar="PATH", help="Write them to this file, at once, for node_exporter.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Serve them over HTTP until Ctrl-C; of this host, as a rule.")
@json_option
@click.pass_obj
def metrics(session: Session, textfile: str | None, listen: str | None) -> int:
    """Print the metrics of the daemon as Prometheus reads them; docs/metrics.md tells what each of them says.

    With --textfile and --listen a daemon that does not answer is told as the metric `featurekeyd_up 0`.
    """
    if sum((textfile is not None, listen is not None, session.as_json)) > 1:
        raise click.UsageError("choose one of --textfile, --listen and --json")
    # Here and not above: half of the start-up time of every verb would go into it.
    from .metrics import Collector, exposition, listed  # noqa: PLC0415

    if listen is not None:
        return _serve(session.path, listen)
    collector = Collector(session.ask, away_is_a_value=textfile is not None)
    if session.as_json:
        out_json({"metrics": listed(collector)})
        return DONE
    text = exposition(collector)
    if textfile is None:
        out(text.rstrip("\n"))
        return DONE
    replace(Path(textfile), text)
    return _told(collector)


def _told(collector: Collector) -> int:
    if collector.trouble is None:
        return DONE
    complain(sentence(collector.trouble, "io.featurekey.License.Status"))
    return status_of(collector.trouble)


def replace(path: Path, text: str) -> None:
    """Write a file that others read, in one step: they see the old one or the new one; raises FileTrouble."""
    # Others may write into the folder: nothing that they could have put there, a link above all, is written to.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FileTrouble(f"{path} cannot be written: {error.strerror or error}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
            os.fchmod(opened.fileno(), 0o644)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise FileTrouble(f"{path} cannot be written: {error.strerror or error}") from None


def read_address(text: str) -> tuple[str, int]:
    """Address and port such as 127.0.0.1:9852, [::1]:9852 or :9852 for this host; raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    address = str(ipaddress.ip_address(host))
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{port!r} is no port")
    return address, int(port)


class _Request(WSGIRequestHandler):
    timeout = REQUEST_SECONDS
    """Seconds for which nothing may come; the standard library's own name."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's own name
        """Nothing: a scrape a minute is no news."""


class Exporter(ThreadingMixIn, WSGIServer):
    """Serves metrics, so many requests at once; the one that is longest at it is cut off for one more."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    address_families: ClassVar = {4: socket.AF_INET, 6: socket.AF_INET6}

    def __init__(self, host: str, port: int, application: Callable[..., Any]) -> None:
        """Listens at once; raises OSError."""
        self.address_family = self.address_families[ipaddress.ip_address(host).version]
        self._places = threading.BoundedSemaphore(MAX_REQUESTS)
        self._began: dict[socket.socket, float] = {}
        """The requests that are being answered, the oldest first, and when each began."""
        self._lock = threading.Lock()
        super().__init__((host, port), _Request)
        self.set_app(application)

    def server_bind(self) -> None:
        """Listen, without asking a name service for the name of this host as the standard library does."""
        # Started again after a scrape it has its port at once, and not when the kernel has forgotten that connection.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread where there is room, or can be made."""
        if not self._places.acquire(blocking=False):
            self._cut_off_oldest()
            if not self._places.acquire(timeout=ROOM_SECONDS):
                self.shutdown_request(request)
                return
        with self._lock:
            self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Cut off what takes too long; the standard library calls this twice a second."""
        late = time.monotonic() - WHOLE_SECONDS
        with self._lock:
            for request, began in self._began.items():
                if began < late:
                    _cut_off(request)

    def _cut_off_oldest(self) -> None:
        with self._lock:
            for request in list(self._began)[:1]:
                _cut_off(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._began.pop(request, None)
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the standard library's own
        """Say what went wrong in a line; a client that went away is nothing."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            complain(f"a request could not be answered: {type(error).__name__}: {error}")


def _cut_off(request: socket.socket) -> None:
    """End a connection under the thread that reads from it or writes to it."""
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Asking:
    """Asks the daemon on a connection of its own each time, and says once why it cannot."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._told = ""

    def __call__(self, method: str) -> dict[str, Any]:
        """The reply to a method without parameters; raises CallError."""
        try:
            with contextlib.closing(Connection(self._path, max_reply=MAX_REPLY)) as connection:
                reply = connection.call(method, {}, timeout=REQUEST_SECONDS)
        except CallError as error:
            said, before = sentence(error, method), self._told
            self._told = said
            if said != before:
                complain(said)
            raise
        self._told = ""
        return reply


def application(path: str) -> Callable[..., Any]:
    """What answers a request: the metrics of the daemon behind that socket, on a connection of its own."""
    from prometheus_client import CollectorRegistry, make_wsgi_app  # noqa: PLC0415 - as above

    from .metrics import Collector  # noqa: PLC0415 - as above

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(_Asking(path), away_is_a_value=True))
    answer: Callable[..., Any] = make_wsgi_app(registry)
    return answer


def _serve(path: str, listen: str) -> int:
    try:
        host, port = read_address(listen)
    except ValueError as error:
        raise click.UsageError(f"--listen {listen!r}: {error}; write an address and a port, {USUAL_LISTEN}") from None
    try:
        exporter = Exporter(host, port, application(path))
    except OSError as error:
        raise FileTrouble(f"cannot listen on {listen}: {error.strerror or error}") from None
    with exporter:
        where = f"[{host}]" if ":" in host else host
        out(f"metrics at http://{where}:{exporter.server_port}/metrics")
        exporter.serve_forever()
    return DONE
