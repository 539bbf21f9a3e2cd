"""One picture from one address of the World Wide Web, without trusting the address or the server.

A list of URLs comes from somewhere else. Whoever wrote it must not be able to make this machine ask
its own services or its neighbours (server-side request forgery), nor fill its memory:

* only http and https, without a user name in the URL;
* the host is resolved once, *every* address it has must be public, and the connection goes to an
  address that was looked at: a name server that answers otherwise the second time (DNS rebinding)
  is not asked a second time, while TLS is still checked against the name;
* redirects are few, and each is treated as a new address;
* no more is read than allowed, whatever Content-Length says, within a time that is not extended by
  a server that sends a byte now and then.

Proxies of the environment are not used, since what they resolve could not be looked at.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import urllib3

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
CHUNK = 1 << 16  # bytes read at a time
REDIRECTS = (301, 302, 303, 307, 308)
LATER = (408, 425, 429, 500, 502, 503, 504)  # what another try may mend
AGENT = "wsol background image set builder (python-urllib3)"
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv6 addresses that lead to an IPv4 address


class Refused(ValueError):
    """What was asked for, or what came, is not acceptable; asking again does not help."""


class TryLater(OSError):
    """It did not work this time. `seconds`: how long the server asks to wait, if it does."""

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


@dataclass(frozen=True)
class Limits:
    """What one picture may cost."""

    max_bytes: int = 20_000_000
    connect_seconds: float = 10.0
    read_seconds: float = 20.0  # between two bytes
    total_seconds: float = 120.0  # for the whole picture
    redirects: int = 4
    allowed_networks: tuple[str, ...] = ()  # that are not public and may be asked all the same


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, if it does."""
    if address.version == 6:
        if address in NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def is_public(address: str) -> bool:
    """Whether an address is one of the open Internet: not private, loopback, link-local, ..."""
    found = _inner(ipaddress.ip_address(address.partition("%")[0]))
    return found.is_global and not (found.is_multicast or found.is_reserved)


def _is_allowed(address: str, networks: tuple[str, ...]) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    return any(found in ipaddress.ip_network(network) for network in networks)


def resolve(host: str, port: int, networks: tuple[str, ...] = ()) -> list[str]:
    """All addresses of a host, IPv4 first, every one of them public or in `networks`.

    Raises Refused if one is not or the name does not exist, TryLater if nobody answers.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        if getattr(error, "errno", None) == socket.EAI_AGAIN:
            raise TryLater(f"{host} cannot be resolved now") from error
        raise Refused(f"{host} has no address") from error
    addresses = dict.fromkeys(entry[4][0] for entry in sorted(found, key=lambda e: e[0]))
    for address in addresses:
        if not (is_public(address) or _is_allowed(address, networks)):
            raise Refused(f"{host} is at {address}, which is no public address")
    return list(addresses)


def _split(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and what to ask for. Raises Refused."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise Refused(f"{url!r} is no URL: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise Refused(f"the scheme is {parts.scheme!r}; only http and https are followed")
    if not parts.hostname or parts.username is not None:
        raise Refused("the URL has no host" if not parts.hostname else "the URL has a user name")
    return (
        parts.scheme,
        parts.hostname,
        port,
        (parts.path or "/") + "?" * bool(parts.query) + (parts.query),
    )


def _pool(scheme: str, host: str, port: int, address: str) -> urllib3.HTTPConnectionPool:
    """Connections to an address; TLS is checked against the host's name."""
    if scheme == "http":
        return urllib3.HTTPConnectionPool(address, port)
    names = dict(server_hostname=host, assert_hostname=host)
    return urllib3.HTTPSConnectionPool(address, port, cert_reqs="CERT_REQUIRED", **names)


@contextmanager
def _answer(url: str, limits: Limits, attempt: int) -> Iterator[urllib3.BaseHTTPResponse]:
    """The answer to one request, with its body still to be read."""
    scheme, host, port, target = _split(url)
    addresses = resolve(host, port, limits.allowed_networks)
    pool = _pool(scheme, host, port, addresses[attempt % len(addresses)])
    name = f"[{host}]" if ":" in host else host
    usual = port == (443 if scheme == "https" else 80)
    headers = {"Host": name if usual else f"{name}:{port}", "User-Agent": AGENT}
    headers |= {"Accept": "image/*", "Accept-Encoding": "identity"}
    wait = urllib3.Timeout(connect=limits.connect_seconds, read=limits.read_seconds)
    options = dict(headers=headers, timeout=wait, retries=False, redirect=False)
    try:
        answer = pool.urlopen("GET", target, preload_content=False, **options)
        try:
            yield answer
        finally:
            answer.close()
    except urllib3.exceptions.LocationParseError as error:
        raise Refused(f"{url!r} is no URL") from error
    except urllib3.exceptions.SSLError as error:
        raise Refused(f"{host} does not prove that it is {host}: {error}") from error
    except urllib3.exceptions.HTTPError as error:
        raise TryLater(f"{type(error).__name__}: {error}") from error
    finally:
        pool.close()


def _body(answer: urllib3.BaseHTTPResponse, limits: Limits, deadline: float) -> bytes:
    """The whole body. Raises Refused if it is too large, TryLater if it takes too long."""
    too_large = f"more than {limits.max_bytes} bytes"
    said = answer.headers.get("Content-Length", "")
    if said.isdigit() and int(said) > limits.max_bytes:
        raise Refused(too_large)
    body = bytearray()
    while chunk := answer.read1(CHUNK, decode_content=False):
        body += chunk
        if len(body) > limits.max_bytes:
            raise Refused(too_large)
        if time.monotonic() > deadline:
            raise TryLater(f"not there within {limits.total_seconds:g} seconds")
    return bytes(body)


def _asked_wait(answer: urllib3.BaseHTTPResponse) -> float:
    """Seconds that a server asks to wait; a date in their place is not understood."""
    said = answer.headers.get("Retry-After", "").strip()
    return float(said) if said.isdigit() else 0.0


def fetch(url: str, limits: Limits | None = None, attempt: int = 0) -> bytes:
    """The bytes behind a URL.

    attempt : number of the try, which goes through the addresses of a host in turn

    Raises Refused or TryLater, with the reason.
    """
    limits = limits or Limits()
    deadline = time.monotonic() + limits.total_seconds
    for _ in range(limits.redirects + 1):
        with _answer(url, limits, attempt) as answer:
            if answer.status == 200:
                return _body(answer, limits, deadline)
            if answer.status in LATER:
                raise TryLater(f"HTTP status {answer.status}", _asked_wait(answer))
            if answer.status not in REDIRECTS or "Location" not in answer.headers:
                raise Refused(f"HTTP status {answer.status}")
            url = urljoin(url, answer.headers["Location"])
    raise Refused(f"more than {limits.redirects} redirects")
