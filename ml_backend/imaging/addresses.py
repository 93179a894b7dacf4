"""Connections to addresses that were looked at first: the name is resolved once, and what was checked is connected to.

A host name whose record changes between a check and the connection would otherwise lead anywhere (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import socket
from typing import ClassVar, Final

from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from labels.errors import ServiceError
from ml_backend.imaging.connections import TimelyAdapter, TimelyHTTPConnection, TimelyHTTPSConnection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Names that mean this machine and nothing else.
LOCAL_NAMES: Final = frozenset({"localhost", "ip6-localhost"})


class ForbiddenAddressError(ServiceError):
    """A host name leads to an address that no image comes from; the name is in the text, the address is not."""


def check_address(host: str, address: Address) -> None:
    """Refuse an address that a host name should not lead to.

    A private network may hold the images. Addresses of this machine are for those who wrote them down as such, and
    those in between (169.254.169.254 is where clouds keep their keys) for nobody.

    Raises:
        ForbiddenAddressError: the address.

    >>> check_address("images.example.org", ipaddress.ip_address("93.184.216.34"))
    >>> check_address("images.example.org", ipaddress.ip_address("127.0.0.1"))
    Traceback (most recent call last):
    ml_backend.imaging.addresses.ForbiddenAddressError: images.example.org leads to an address that is not allowed
    """
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    is_odd = address.is_link_local or address.is_multicast or address.is_unspecified
    is_local = address.is_loopback or (address.is_reserved and not address.is_private)
    is_written_down = _to_address(host) is not None or host.lower() in LOCAL_NAMES
    if is_odd or (is_local and not is_written_down):
        raise ForbiddenAddressError(f"{host} leads to an address that is not allowed")


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, every one of them checked.

    Raises:
        ForbiddenAddressError: one of them is not allowed.
        OSError: there is no such host.
    """
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found:
        check_address(host, ipaddress.ip_address(text.partition("%")[0]))
    return found


def _connect(connection: HTTPConnection) -> socket.socket:
    """Open the socket of an urllib3 connection, to a checked address and to none but that."""
    host, port = connection._dns_host, connection.port
    timeout_s = connection.timeout if isinstance(connection.timeout, (int, float)) else None
    problem: OSError = OSError("no address")
    try:
        addresses = resolve(host.strip("[]"), port)
    except OSError as error:
        raise NewConnectionError(connection, f"no such host ({error.strerror})") from error
    for address in addresses:
        try:
            made = socket.create_connection((address, port), timeout_s)
        except OSError as error:
            problem = error
            continue
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    if isinstance(problem, TimeoutError):
        raise ConnectTimeoutError(connection, "no answer in time") from problem
    raise NewConnectionError(connection, f"no connection ({problem.strerror})") from problem


class _CheckedHTTPConnection(TimelyHTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _CheckedHTTPSConnection(TimelyHTTPSConnection):
    # The name stays the one that the certificate is checked for.
    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _CheckedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _CheckedHTTPConnection


class _CheckedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _CheckedHTTPSConnection


class CheckedAdapter(TimelyAdapter):
    """Carries a requests session over checked connections."""

    pools: ClassVar[dict[str, type[HTTPConnectionPool]]] = {"http": _CheckedHTTPPool, "https": _CheckedHTTPSPool}


def _to_address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
