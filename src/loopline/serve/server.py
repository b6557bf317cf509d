"""A service on a port: listening, signals, replacing models while it runs, and a quiet end.

The end, on SIGTERM or Ctrl-C: no new connections; requests under way are answered; a connection
that is kept open gets one more answer, which says that it closes; what rests is closed; labels and
the prediction log are on the disk; the exit code is 0.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from loopline.errors import EnvironmentProblem, SettingsError
from loopline.serve.app import App
from loopline.serve.following import Follower, Newest, Shadowing
from loopline.serve.protocol import guarded, sweep
from loopline.serve.service import Service
from loopline.serve.settings import ServeSettings, check_token

BACKLOG = 2048
LAST_ANSWER_SECONDS = 1.0
"""How long kept connections are given to send the request that ends them."""
_STARTING_SECONDS = 60.0
_SWITCH_SECONDS = 0.002
_GC_THRESHOLDS = (20_000, 20, 50)


def listen(settings: ServeSettings, *, shared: bool = False) -> socket.socket:
    """A socket on the service's address, not yet listening.

    Args:
        settings: address and port.
        shared: whether other processes will listen on the same port.

    Raises:
        EnvironmentProblem: the port is taken or not allowed.
        SettingsError: the address is none of this machine.
    """
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise SettingsError([f"`host` {settings.host!r} is no address: {error}."]) from error
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        raise EnvironmentProblem(
            f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}. "
            "Choose another with --port, or 0 for a free one."
        ) from error
    return made


def address_of(bound: socket.socket, host: str) -> str:
    """The URL of a bound socket, under the name that was asked for."""
    port = bound.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn's server with our signals and our end.

    Args:
        service: what answers.
        token: what callers must send, or None.
        newest: by name, what tells which release it should have; asked every `swap_seconds`.
        shadows: by name, what tells which release is to be tried beside it as a shadow.
        started: called when the port is open.

    Raises:
        SettingsError: no token beyond loopback.
    """

    def __init__(
        self,
        service: Service,
        *,
        token: str | None = None,
        newest: Mapping[str, Newest] | None = None,
        shadows: Mapping[str, Shadowing] | None = None,
        started: Callable[[], None] | None = None,
    ) -> None:
        check_token(token, service.settings)
        service.check()
        limits = service.settings.limits
        application = App(service, token)
        super().__init__(
            uvicorn.Config(
                application,
                http=guarded(application),
                loop="auto",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=int(limits.idle_seconds) or 1,
                timeout_graceful_shutdown=int(service.settings.drain_seconds) or None,
            )
        )
        self.service = service
        self._follower = Follower(service, newest or {}, shadows or {})
        self._started = started
        self.beside: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._looked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port and begin to sweep and to look for newer releases."""
        await super().startup(sockets=sockets)
        if not self.started:
            return
        loop = asyncio.get_running_loop()
        connections: set[Any] = self.server_state.connections
        self._tasks.append(loop.create_task(sweep(connections, self.service.metrics)))
        self._tasks += [loop.create_task(work()) for work in self.beside]
        if self._follower.follows:
            self._tasks.append(loop.create_task(self._look_for_newer()))
        if threading.current_thread() is threading.main_thread():
            with suppress(NotImplementedError):
                loop.add_signal_handler(signal.SIGHUP, self._looked.set)
        if self._started is not None:
            self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See the module."""
        self.service.draining = True
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        until = loop.time() + LAST_ANSWER_SECONDS
        while self.server_state.connections and loop.time() < until and not self.force_exit:
            await asyncio.sleep(0.02)
        self._follower.report()
        await super().shutdown(sockets=sockets)
        for task in self._tasks:
            task.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End quietly on SIGTERM and SIGINT; uvicorn's own would let the signal kill us after."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def _look_for_newer(self) -> None:
        """Swap in what a name stands for now; every `swap_seconds`, and at once on SIGHUP."""
        seconds = self.service.settings.swap_seconds or None
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._looked.wait(), seconds)
            self._looked.clear()
            await self._follower.look()


def run(server: Server, bound: socket.socket) -> None:
    """Serve until a signal ends it."""
    server.run(sockets=[bound])


def run_alone(server: Server, bound: socket.socket) -> None:
    """`run` in a process that does nothing else, tuned for that.

    What is loaded stays, so the garbage collector need not look at it again and again; and the
    threads of the log hand the interpreter over within two milliseconds instead of five.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line for each bad request
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_SECONDS)
    run(server, bound)


class RunningService:
    """A service in a thread of this process; ends with its `with` block, or `close`.

    Args:
        server: the server, not yet running.
        bound: the socket it will listen on.

    Raises:
        EnvironmentProblem: it did not start.
    """

    def __init__(self, server: Server, bound: socket.socket) -> None:
        self._server = server
        self.service = server.service
        self.url = address_of(bound, server.service.settings.host)
        self._thread = threading.Thread(target=run, args=(server, bound), daemon=True)
        ready = threading.Event()
        server._started = ready.set
        self._thread.start()
        waited = 0.0
        while not ready.wait(0.05):
            waited += 0.05
            if not self._thread.is_alive() or waited > _STARTING_SECONDS:
                raise EnvironmentProblem(f"The service on {self.url} did not start.")

    def __enter__(self) -> RunningService:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def wait(self) -> None:
        """Wait until the service ends."""
        self._thread.join()

    def close(self) -> None:
        """Answer what is under way, write what waits, and end."""
        self._server.should_exit = True
        self._thread.join()
