"""Connections that give up on a host whose answer does not begin in time, however busily it drips."""

from __future__ import annotations

import socket
import threading
from typing import Any, ClassVar, Final

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse

# From the request to the end of the answer's headers: the limit between two pieces is never reached by a host that
# sends a byte a second.
HEADERS_TIMEOUT_S: Final = 10.0


class TimelyHTTPConnection(HTTPConnection):
    """A connection whose answer's headers are there in time, or it is cut."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3 has its own too
        """Return the answer once its headers are there.

        Raises:
            TimeoutError: they were not there in time.
        """
        is_late = threading.Event()

        def cut() -> None:
            is_late.set()
            if isinstance(self.sock, socket.socket):
                # Not the encrypted socket's own, which would wait for the host to take leave.
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

        watch = threading.Timer(HEADERS_TIMEOUT_S, cut)
        watch.daemon = True
        watch.start()
        try:
            response = super().getresponse()
        except Exception as error:
            # A socket that was cut fails in many ways; any other failure is passed on.
            if is_late.is_set():
                raise TimeoutError("the headers are not there in time") from error
            raise
        finally:
            watch.cancel()
        if is_late.is_set():
            response.close()
            raise TimeoutError("the headers are not there in time")
        return response


class TimelyHTTPSConnection(TimelyHTTPConnection, HTTPSConnection):
    """The same, encrypted."""


class _TimelyHTTPPool(HTTPConnectionPool):
    ConnectionCls = TimelyHTTPConnection


class _TimelyHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = TimelyHTTPSConnection


class TimelyAdapter(HTTPAdapter):
    """Carries a requests session over timely connections."""

    pools: ClassVar[dict[str, type[HTTPConnectionPool]]] = {"http": _TimelyHTTPPool, "https": _TimelyHTTPSPool}

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of these connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = dict(self.pools)
