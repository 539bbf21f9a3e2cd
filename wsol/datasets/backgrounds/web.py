"""Download background images from a table of URLs: polite, size-limited, and resumable.

The table is a CSV file with the columns url and licence, and source where it is not the URL itself
(the page of the image, say). Neither the addresses nor the servers are trusted: only http and https
to public addresses, connected to at the address that was checked. Images are written to a folder
of their own, from which `wsol.datasets.backgrounds.build` takes them. It also has memo.sqlite, a
record of what is there, and failed.csv, with a reason for each URL that failed. Started again, it
fetches only what is not there with the recorded hash.
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import itertools
import socket
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

import pandas as pd
import urllib3
from PIL import Image
from urllib3.util.retry import Retry

from wsol.datasets.backgrounds.build import Candidate
from wsol.datasets.checks import DatasetError, raise_errors
from wsol.datasets.files import PARTIAL, file_sha256, read_csv, write_table, written_whole
from wsol.datasets.image_files import UNDECODABLE
from wsol.datasets.memo import MEMO, Memo, State

CHUNK = 1 << 16  # bytes read at a time
REDIRECTS, RETRIED = (301, 302, 303, 307, 308), (408, 425, 429, 500, 502, 503, 504)
AGENT = "wsol background image set builder (python-urllib3)"
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv6 addresses that lead to an IPv4 address
# Site-local, documentation, segment routing, local translation, protocols, relays of 6to4, and the
# host of virtual machines in Azure: `is_global` lets them pass, in some versions of Python.
SPECIAL = ("fec0::/10", "3fff::/20", "5f00::/16", "64:ff9b:1::/48")
SPECIAL += ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")
SUFFIX_OF = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}
PORTS = {"http": 80, "https": 443}


class Refused(ValueError):
    """The URL or the answer is not acceptable; trying again does not help."""


class TryLater(OSError):
    """It did not work this time. `response` is the server's, if there is one."""

    def __init__(self, reason: str, response: urllib3.BaseHTTPResponse | None = None) -> None:
        super().__init__(reason)
        self.response = response


@dataclass(frozen=True)
class Limits:
    """What one image may cost, and how often servers are asked."""

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    min_side: int = 32  # pixels; smaller ones are icons
    connect_seconds: float = 10.0
    read_seconds: float = 20.0  # between two bytes
    total_seconds: float = 120.0  # per try
    redirects: int = 4
    tries: int = 4  # per image
    back_off: float = 2.0  # factor of the waits between tries, which double
    longest_wait: int = 60  # seconds, even if a server asks for more
    host_interval: float = 1.0  # seconds between two requests to one host
    allowed_networks: tuple[str, ...] = ()  # not public, but allowed, as "10.1.0.0/16"


def is_public(text: str) -> bool:
    """Whether an address is globally reachable: not private, loopback, link- or site-local, ...

    text : IPv4 or IPv6, with or without a zone; addresses inside another are looked at themselves.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if address.version == 6:
        if address in NAT64:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        else:
            address = address.ipv4_mapped or address.sixtofour or address
    if any(address in ipaddress.ip_network(network) for network in SPECIAL):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def resolve(host: str, port: int, networks: tuple[str, ...] = ()) -> list[str]:
    """All addresses of a host, IPv4 first, every one of them public or in `networks`.

    Raises Refused if one is not or the name does not exist, TryLater if it cannot be resolved now.
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        if getattr(error, "errno", None) == socket.EAI_AGAIN:
            raise TryLater(f"{host} cannot be resolved now") from error
        raise Refused(f"{host} has no address") from error
    allowed = [ipaddress.ip_network(network) for network in networks]
    addresses = dict.fromkeys(answer[4][0] for answer in sorted(answers, key=lambda a: a[0]))
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not (is_public(text) or any(address in network for network in allowed)):
            raise Refused(f"{host} is at {text}, which is no public address")
    return list(addresses)


def _split(url: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise Refused(f"{url!r} is no URL: {error}") from error
    if parts.scheme not in PORTS:
        raise Refused(f"the scheme is {parts.scheme!r}; only http and https are followed")
    if not parts.hostname or parts.username is not None:
        raise Refused("the URL has no host" if not parts.hostname else "the URL has a user name")
    return parts, port


def _pool(scheme: str, host: str, port: int, address: str) -> urllib3.HTTPConnectionPool:
    if scheme == "http":
        return urllib3.HTTPConnectionPool(address, port)
    names = dict(server_hostname=host, assert_hostname=host)
    return urllib3.HTTPSConnectionPool(address, port, cert_reqs="CERT_REQUIRED", **names)


def _request(url: str, limits: Limits, attempt: int, deadline: float) -> tuple[str, bytes]:
    """One request: the URL that it redirects to, or "", and the body of the image."""
    parts, port = _split(url)
    host, target = parts.hostname, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    addresses = resolve(host, port, limits.allowed_networks)
    pool = _pool(parts.scheme, host, port, addresses[attempt % len(addresses)])
    headers = {"Host": parts.netloc, "User-Agent": AGENT}
    headers |= {"Accept": "image/*", "Accept-Encoding": "identity"}
    options = dict.fromkeys(("retries", "redirect", "preload_content"), False)
    options["timeout"] = urllib3.Timeout(limits.connect_seconds, limits.read_seconds)
    try:
        request = pool.urlopen("GET", target, headers=headers, **options)
        with closing(pool), closing(request) as response:
            if response.status == 200:
                return "", _body(response, limits, deadline)
            if response.status in RETRIED:
                raise TryLater(f"HTTP status {response.status}", response)
            if response.status not in REDIRECTS or "Location" not in response.headers:
                raise Refused(f"HTTP status {response.status}")
            return urljoin(url, response.headers["Location"]), b""
    except urllib3.exceptions.LocationParseError as error:
        raise Refused(f"{url!r} is no URL") from error
    except urllib3.exceptions.SSLError as error:
        raise Refused(f"the certificate of {host} is not valid: {error}") from error
    except urllib3.exceptions.HTTPError as error:
        raise TryLater(f"{type(error).__name__}: {error}") from error


def _body(response: urllib3.BaseHTTPResponse, limits: Limits, deadline: float) -> bytes:
    length, body = response.headers.get("Content-Length", ""), bytearray()
    too_large = length.isdigit() and int(length) > limits.max_bytes
    while not too_large and (chunk := response.read1(CHUNK, decode_content=False)):
        body += chunk
        too_large = len(body) > limits.max_bytes
        if time.monotonic() > deadline:
            raise TryLater(f"not complete within {limits.total_seconds:g} seconds")
    if too_large:
        raise Refused(f"more than {limits.max_bytes} bytes")
    return bytes(body)


class Hosts:
    """When each host may be asked again."""

    def __init__(self, interval: float) -> None:
        self.interval, self.next = interval, {}

    def wait(self, url: str) -> None:
        """Wait until the host of a URL may be asked."""
        parts, port = _split(url)
        host = f"{parts.hostname}:{port}"
        time.sleep(max(0.0, self.next.get(host, 0.0) - time.monotonic()))
        self.next[host] = time.monotonic() + self.interval


def fetch(url: str, limits: Limits | None = None, hosts: Hosts | None = None) -> bytes:
    """The bytes behind a URL, tried several times, at the addresses of its host in turn.

    Raises Refused with the reason.
    """
    limits = limits or Limits()
    hosts = hosts or Hosts(limits.host_interval)
    waits = dict(backoff_max=limits.longest_wait, retry_after_max=limits.longest_wait)
    retry = Retry(limits.tries - 1, backoff_factor=limits.back_off, **waits)
    for attempt in itertools.count():
        hosts.wait(url)
        try:
            to, deadline = url, time.monotonic() + limits.total_seconds
            for _ in range(limits.redirects + 1):
                to, body = _request(to, limits, attempt, deadline)
                if not to:
                    return body
            raise Refused(f"more than {limits.redirects} redirects")
        except TryLater as error:
            try:
                retry = retry.increment("GET", url, error=error)
            except urllib3.exceptions.MaxRetryError:
                raise Refused(f"{error} ({limits.tries} tries)") from error
            retry.sleep(error.response)


def read_urls(path: str | Path) -> pd.DataFrame:
    """Columns url, source, licence of a table of URLs. Raises DatasetError with all errors."""
    try:
        table = read_csv(path)
    except (OSError, ValueError) as error:
        raise DatasetError([str(error)]) from error
    missing = [name for name in ("url", "licence") if name not in table.columns]
    if missing:
        raise DatasetError([f"{path}:1: the table lacks the columns {', '.join(missing)}"])
    table = table.apply(lambda column: column.str.strip())
    bad = {f"no {name}": table[name] == "" for name in ("url", "licence")}
    bad["duplicate url"] = table.duplicated("url") & table["url"].ne("")
    urls = table["url"]
    raise_errors([f"{path}:{i + 2}: {why} {urls[i]}" for why in bad for i in urls.index[bad[why]]])
    source = table.get("source", urls)
    source = source.where(source != "", urls)
    return table.assign(source=source)[["url", "source", "licence"]]


def check_image(data: bytes, limits: Limits) -> str:
    """The suffix of an image that decodes and is of an allowed format and size.

    Raises Refused with the reason if it is not.
    """
    try:
        with Image.open(io.BytesIO(data), formats=list(SUFFIX_OF)) as image:
            width, height = image.size  # of the header: nothing is decoded yet
            if width * height > limits.max_pixels:
                raise Refused(f"{width} x {height} are more than {limits.max_pixels} pixels")
            if min(width, height) < limits.min_side:
                raise Refused(f"{width} x {height} pixels are too few")
            image.load()
            return SUFFIX_OF[image.format]
    except Refused:
        raise
    except UNDECODABLE as error:
        known = ", ".join(SUFFIX_OF)
        raise Refused(f"no image that decodes ({known}): {type(error).__name__}") from error


def download(
    urls: pd.DataFrame, folder: str | Path, limits: Limits | None = None
) -> tuple[list[Candidate], pd.DataFrame]:
    """Download images into `folder`; an image that fails does not stop the others.

    urls : columns url, source, licence, see `read_urls`

    Returns the images, and a table with the columns url and reason, also written to failed.csv.
    """
    folder, limits = Path(folder), limits or Limits()
    folder.mkdir(parents=True, exist_ok=True)
    for partial in folder.glob(f"*{PARTIAL}"):  # of a process that was killed
        partial.unlink()
    images, failed, hosts = [], [], Hosts(limits.host_interval)
    with Memo(folder / MEMO) as memo:
        for row in urls.itertuples():
            state = State(row.url.encode(), 0, 0)
            name, sha256 = memo.get("download", state) or ("", "")
            path = folder / name
            if not (path.is_file() and file_sha256(path) == sha256):
                try:
                    data = fetch(row.url, limits, hosts)
                    suffix = check_image(data, limits)
                except Refused as error:
                    failed.append((row.url, " ".join(str(error).split())))
                    continue
                path = folder / (hashlib.sha256(row.url.encode()).hexdigest()[:20] + suffix)
                with written_whole(path) as partial:
                    partial.write_bytes(data)
                memo.put("download", state, [path.name, hashlib.sha256(data).hexdigest()])
            images.append(Candidate(path, f"web/{path.name}", row.source, row.licence))
    table = pd.DataFrame(failed, columns=["url", "reason"])
    write_table(table, folder / "failed.csv")
    return images, table
