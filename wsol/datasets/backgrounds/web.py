"""Background pictures from a table of URLs: patient, polite, and resumable at any moment.

The table is a CSV file with the columns url and licence, and source where it is not the URL itself
(the page of the picture, say). The pictures go to a folder of their own, from which
`wsol.datasets.backgrounds.build` takes them; beside them `downloads.csv` says of each URL

    url     as in the table
    file    in this folder, "" if it could not be had
    sha256  of its bytes
    reason  why it could not be had, "" if it could

A file has its name only when it is complete and decodes. Started again, it goes on: what is there
with the recorded hash is not fetched again, what failed is tried anew.
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pandas as pd
import urllib3
from PIL import Image

from wsol.datasets.backgrounds.build import Candidate
from wsol.datasets.backgrounds.manifest import file_sha256
from wsol.datasets.checks import DatasetError
from wsol.datasets.memo import append_rows, read_journal

# One picture from one address of the World Wide Web, without trusting the address or the server.

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


DOWNLOADS = "downloads.csv"
COLUMNS = ("url", "file", "sha256", "reason")
SUFFIX_OF = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}


@dataclass(frozen=True)
class Manners:
    """How pictures are asked for, and which ones are taken."""

    limits: Limits = field(default_factory=Limits)  # of one picture
    max_pixels: int = 50_000_000
    min_side: int = 32  # pixels; below, it is an icon or a counter
    tries: int = 4  # per picture
    back_off: float = 2.0  # seconds before the second try, twice as long before each further one
    longest_wait: float = 60.0  # seconds, even if a server asks for more
    host_interval: float = 1.0  # seconds between two requests to one host


def read_urls(path: str | Path) -> pd.DataFrame:
    """Columns url, source, licence of a table of URLs. Raises DatasetError with all faults."""
    try:
        table = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError([f"{path}: missing file"]) from None
    except ValueError as error:
        raise DatasetError([f"{path}: cannot be read: {error}"]) from error
    missing = [name for name in ("url", "licence") if name not in table.columns]
    if missing:
        raise DatasetError([f"{path}:1: the table lacks the columns {', '.join(missing)}"])
    table = table.apply(lambda column: column.str.strip())
    faults = []
    for line, row in enumerate(table.itertuples(), start=2):
        blank = [name for name in ("url", "licence") if not getattr(row, name)]
        faults += [f"{path}:{line}: no {name}" for name in blank]
    twice = table.index[table.duplicated("url") & table["url"].ne("")]
    faults += [f"{path}:{i + 2}: duplicate url {table['url'][i]}" for i in twice]
    if faults:
        raise DatasetError(faults)
    source = table["source"] if "source" in table.columns else table["url"]
    return table.assign(source=source.where(source != "", table["url"]))[
        ["url", "source", "licence"]
    ]


def check_picture(data: bytes, manners: Manners) -> str:
    """The suffix of a picture that decodes and is of an allowed format and size.

    Raises Refused with the reason if it is not.
    """
    try:
        # The header's size is looked at before any pixel is decoded.
        with Image.open(io.BytesIO(data), formats=list(SUFFIX_OF)) as image:
            width, height = image.size
            if width * height > manners.max_pixels:
                raise Refused(f"{width} x {height} are more than {manners.max_pixels} pixels")
            if min(width, height) < manners.min_side:
                raise Refused(f"{width} x {height} pixels are too few")
            image.load()
            return SUFFIX_OF[image.format]
    except Image.DecompressionBombError as error:
        raise Refused(f"too many pixels: {error}") from error
    except (OSError, SyntaxError) as error:
        known = ", ".join(SUFFIX_OF)
        raise Refused(f"no picture that decodes ({known}): {type(error).__name__}") from error


class _Turns:
    """When each host may be asked again."""

    def __init__(self, interval: float) -> None:
        self.interval, self.next = interval, {}

    def wait(self, url: str) -> None:
        host = urlsplit(url).netloc.lower()
        time.sleep(max(0.0, self.next.get(host, 0.0) - time.monotonic()))
        self.next[host] = time.monotonic() + self.interval


def _fetch_patiently(url: str, manners: Manners, turns: _Turns) -> bytes:
    """The bytes behind a URL, asked for several times if need be. Raises Refused or TryLater."""
    for attempt in range(manners.tries):
        turns.wait(url)
        try:
            return fetch(url, manners.limits, attempt)
        except TryLater as error:
            if attempt + 1 == manners.tries:
                raise TryLater(f"{error} ({manners.tries} tries)") from error
            wait = max(error.seconds, manners.back_off * 2**attempt)
            time.sleep(min(wait, manners.longest_wait))
    raise ValueError(f"tries is {manners.tries}; it must be at least 1")


def _store(data: bytes, url: str, suffix: str, folder: Path) -> str:
    """Write a picture under the name that its URL always gives; return the name."""
    name = hashlib.sha256(url.encode()).hexdigest()[:20] + suffix
    partial = folder / f"{name}.part"
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / name)
    return name


def _download(url: str, folder: Path, manners: Manners, turns: _Turns) -> dict[str, str]:
    """Fetch one picture; its row of `downloads.csv`, with the reason if it could not be had."""
    row = dict.fromkeys(COLUMNS, "") | {"url": url}
    try:
        data = _fetch_patiently(url, manners, turns)
        row["file"] = _store(data, url, check_picture(data, manners), folder)
    except (Refused, TryLater) as error:
        return row | {"reason": " ".join(str(error).split())}
    return row | {"sha256": hashlib.sha256(data).hexdigest()}


def _is_there(row: dict[str, str] | None, folder: Path) -> bool:
    if row is None or not row["file"] or not (folder / row["file"]).is_file():
        return False
    return file_sha256(folder / row["file"]) == row["sha256"]


def _rows(urls: list[str], folder: Path, manners: Manners) -> Iterator[dict[str, str]]:
    """One row per URL, written down as soon as it is known."""
    known = read_journal(folder / DOWNLOADS, COLUMNS, "url")
    turns = _Turns(manners.host_interval)
    for url in urls:
        row = known.get(url)
        if not _is_there(row, folder):
            row = _download(url, folder, manners, turns)
            append_rows(folder / DOWNLOADS, COLUMNS, [row])
        yield row


def download(
    urls: pd.DataFrame, folder: str | Path, manners: Manners | None = None
) -> tuple[list[Candidate], pd.DataFrame]:
    """Fetch pictures into `folder`; what can be had, and a table of what cannot.

    urls : columns url, source, licence, see `read_urls`

    The second table has the columns url and reason; a picture that fails does not stop the others.
    """
    folder, manners = Path(folder), manners or Manners()
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.part"):  # of a process that was killed
        left.unlink()
    rows = list(_rows(list(urls["url"]), folder, manners))
    had = [
        Candidate(folder / row["file"], f"web/{row['file']}", about.source, about.licence)
        for row, about in zip(rows, urls.itertuples(), strict=True)
        if row["file"]
    ]
    failed = [(row["url"], row["reason"]) for row in rows if not row["file"]]
    return had, pd.DataFrame(failed, columns=["url", "reason"])
