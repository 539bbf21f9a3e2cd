"""Images come from a server that one must not trust, over a network that one cannot trust."""

import io
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from wsol.datasets.backgrounds import web
from wsol.datasets.backgrounds.build import build_background_set
from wsol.datasets.backgrounds.manifest import read_background_set
from wsol.datasets.backgrounds.web import (
    Limits,
    Refused,
    TryLater,
    check_image,
    download,
    fetch,
    is_public,
    read_urls,
    resolve,
)
from wsol.datasets.checks import DatasetError
from wsol.datasets.files import PARTIAL, file_sha256

LOOPBACK = ("127.0.0.0/8",)
LIMITS = Limits(
    max_bytes=200_000,
    read_seconds=2.0,
    total_seconds=1.0,
    redirects=3,
    tries=3,
    back_off=0.01,
    longest_wait=1,
    host_interval=0.0,
    allowed_networks=LOOPBACK,
)


def image(seed: int = 0, form: str = "PNG", side: int = 48) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form)
    return data.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Good images under /good/N; every other path has an error of its own."""

    def log_message(self, *_: object) -> None:
        pass

    def send(self, body: bytes, status: int = 200, length: int | None = None, **headers: str):
        self.send_response(status)
        if length != -1:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.asked.append((self.path, time.monotonic()))
        times = sum(path == self.path for path, _ in self.server.asked)
        kind, _, rest = self.path.strip("/").partition("/")
        if kind == "good":
            self.send(image(int(rest)))
        elif kind == "jpeg":
            self.send(image(5, "JPEG"), Content_Type="application/octet-stream")
        elif kind == "fails-twice":
            self.send(b"" if times < 3 else image(1), 503 if times < 3 else 200)
        elif kind == "asks-to-wait":
            self.send(image(2) if times > 1 else b"", 200 if times > 1 else 429, Retry_After="7")
        elif kind == "gone":
            self.send(b"", 404)
        elif kind == "always-fails":
            self.send(b"", 500)
        elif kind == "says-too-much":
            self.send(b"x", length=10**12)
        elif kind == "sends-too-much":
            self.send(bytes(300_000), length=-1)
        elif kind == "sends-less-than-said":
            self.send(image(3), length=len(image(3)) + 50)
        elif kind == "sends-more-than-said":
            self.send(image(3), length=len(image(3)) - 50)
        elif kind == "drips":
            self.send(b"", length=1000)
            for _ in range(40):
                self.wfile.write(b"x")
                time.sleep(0.1)
        elif kind == "page":
            self.send(b"<html>no image</html>", Content_Type="image/png")
        elif kind == "gif":
            self.send(image(4, "GIF"))
        elif kind == "icon":
            self.send(image(4, side=8))
        elif kind == "cut-off":
            self.send(image(4)[:-400])
        elif kind == "redirect":
            hops, _, to = rest.partition("/")
            to = f"/redirect/{int(hops) - 1}/{to}" if int(hops) > 1 else "/" + to
            self.send(b"", 302, Location=to)
        elif kind == "redirect-to-port":
            self.send(b"", 302, Location="http://10.0.0.1/good/1")
        elif kind == "redirect-to-file":
            self.send(b"", 302, Location="file:///etc/passwd")


@pytest.fixture
def server():
    """A server on loopback; `asked` lists the paths it was asked for, and when."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


def table(server, *paths: str) -> pd.DataFrame:
    urls = [f"{server.url}/{path}" for path in paths]
    return pd.DataFrame({"url": urls, "source": urls, "licence": "CC0-1.0"})


def reason(server, path: str, folder: Path) -> str:
    """Why a path cannot be had."""
    had, failed = download(table(server, path), folder, LIMITS)
    assert had == []
    assert sorted(p.name for p in folder.iterdir()) == ["failed.csv"]
    return failed["reason"].item()


# Addresses


NOT_PUBLIC = (
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_of_the_open_internet_is_told(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:4700:4700::1111"])
def test_a_public_address_is_told(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "localhost"]
    + ["2130706433", "0x7f.1", "127.1", "0"],
)
def test_by_default_no_such_host_is_asked(host: str, monkeypatch) -> None:
    monkeypatch.setattr(web, "_pool", lambda *_: pytest.fail("a connection was made"))
    with pytest.raises(Refused, match=r"no public address|has no address"):
        fetch(f"http://{host}/image.png")


def answers(monkeypatch, *addresses: str) -> None:
    """Every name has these addresses."""
    resolved = [(2 if "." in a else 10, 1, 6, "", (a, 80)) for a in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: resolved)


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["93.184.215.14", "192.168.0.1"], ["::1"]])
def test_a_name_that_leads_inside_is_refused_even_if_it_leads_outside_too(
    addresses: list[str], monkeypatch
) -> None:
    answers(monkeypatch, *addresses)
    with pytest.raises(Refused, match="which is no public address"):
        fetch("http://images.example.org/1.png")


def test_the_connection_goes_to_the_address_that_was_checked(server, monkeypatch) -> None:
    port, asked = server.server_port, []

    def once(host: str, *_: object, **__: object):
        """A name server that first gives the allowed address and later one further inside."""
        asked.append(host)
        inside = "127.0.0.1" if asked.count("images.example.org") <= 1 else "127.9.9.9"
        address = host if host[0].isdigit() else inside
        return [(2, 1, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", once)
    assert fetch(f"http://images.example.org:{port}/good/1", LIMITS) == image(1)
    assert asked.count("images.example.org") == 1


def test_addresses_are_tried_in_turn(monkeypatch) -> None:
    answers(monkeypatch, "2606:4700:4700::1111", "8.8.8.8")
    assert resolve("example.org", 80) == ["8.8.8.8", "2606:4700:4700::1111"]
    tried = []

    def pool(_scheme: str, _host: str, _port: int, address: str):
        tried.append(address)
        raise TryLater("not really")

    monkeypatch.setattr(web, "_pool", pool)
    with pytest.raises(Refused, match="not really \\(3 tries\\)"):
        fetch("http://example.org/", LIMITS)
    assert tried == ["8.8.8.8", "2606:4700:4700::1111", "8.8.8.8"]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A key, and a certificate of images.example.org that it signed itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, own = tmp_path / "key.pem", tmp_path / "own.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-keyout", key, "-out", own, "-subj", "/CN=images.example.org"]
    words += ["-addext", "subjectAltName=DNS:images.example.org"]
    subprocess.run(words, check=True, capture_output=True)
    return key, own


def test_tls_is_checked_against_the_name_not_the_address(server, certificate, monkeypatch) -> None:
    key, own = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    port, asked = server.server_port, socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **more: asked(
            "127.0.0.1" if host.endswith(".org") else host, *rest, **more
        ),
    )
    with pytest.raises(Refused, match="certificate of images"):  # nobody knows it
        fetch(f"https://images.example.org:{port}/good/1", LIMITS)
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    assert fetch(f"https://images.example.org:{port}/good/1", LIMITS) == image(1)
    with pytest.raises(Refused, match="certificate of other"):
        fetch(f"https://other.example.org:{port}/good/1", LIMITS)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "the scheme is 'file'"),
        ("ftp://example.org/1.png", "the scheme is 'ftp'"),
        ("gopher://example.org/", "the scheme is 'gopher'"),
        ("image.png", "the scheme is ''"),
        ("http://name:word@example.org/", "has a user name"),
        ("http:///1.png", "has no host"),
        ("http://example.org:99999/", "is no URL"),
        ("http://[::1/", "is no URL"),
    ],
)
def test_what_is_no_address_of_the_web_is_refused(url: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        fetch(url)


# One image


def test_a_good_image_comes_as_it_is(server) -> None:
    assert fetch(f"{server.url}/good/7", LIMITS) == image(7)


@pytest.mark.parametrize(
    ("path", "why", "tries"),
    [
        ("gone", "HTTP status 404", 1),
        ("always-fails", "HTTP status 500 (3 tries)", 3),
        ("says-too-much", "more than 200000 bytes", 1),
        ("sends-too-much", "more than 200000 bytes", 1),
        ("sends-less-than-said", "IncompleteRead", 3),
        ("sends-more-than-said", "no image that decodes", 1),
        ("drips", "not complete within 1 seconds", 3),
        ("page", "no image that decodes", 1),
        ("gif", "no image that decodes (JPEG, PNG, WEBP, BMP)", 1),
        ("icon", "8 x 8 pixels are too few", 1),
        ("cut-off", "no image that decodes", 1),
        ("redirect/5/good/1", "more than 3 redirects", 4),
        ("redirect-to-port", "10.0.0.1 is at 10.0.0.1, which is no public address", 1),
        ("redirect-to-file", "the scheme is 'file'", 1),
    ],
)
def test_what_cannot_be_had_is_listed_with_its_reason(
    server, tmp_path: Path, path: str, why: str, tries: int
) -> None:
    assert why in reason(server, path, tmp_path / "downloads")
    assert len(server.asked) == tries


def test_more_pixels_than_allowed_are_not_decoded(monkeypatch) -> None:
    data = image()
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(Refused, match="48 x 48 are more than 1000 pixels"):
        check_image(data, Limits(max_pixels=1000))


def test_redirects_within_the_limit_are_followed(server, tmp_path: Path) -> None:
    had, failed = download(table(server, "redirect/3/good/1"), tmp_path, LIMITS)
    assert had[0].path.read_bytes() == image(1)
    assert len(failed) == 0


def test_a_server_that_fails_twice_is_asked_a_third_time(server, tmp_path: Path) -> None:
    had, _ = download(table(server, "fails-twice"), tmp_path, LIMITS)
    assert had[0].path.read_bytes() == image(1)
    assert len(server.asked) == 3


def test_waits_grow_and_the_servers_wish_counts_up_to_a_limit(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(web.time, "sleep", lambda seconds: waits.append(seconds))
    limits = replace(LIMITS, tries=4, back_off=1.0, longest_wait=5)
    download(table(server, "always-fails", "asks-to-wait"), tmp_path, limits)
    assert [wait for wait in waits if wait > 0] == [2.0, 4.0, 5.0]


def test_a_host_is_not_asked_more_often_than_is_polite(server, tmp_path: Path) -> None:
    limits = replace(LIMITS, host_interval=0.15)
    download(table(server, "good/1", "good/2", "good/3"), tmp_path, limits)
    times = [when for _, when in server.asked]
    assert np.diff(times).min() >= 0.14


# Many images


def test_a_failure_does_not_stop_the_others_and_nothing_is_fetched_twice(server, tmp_path) -> None:
    urls = table(server, "good/1", "gone", "good/2", "page", "jpeg")
    had, failed = download(urls, tmp_path, LIMITS)
    assert [one.path.suffix for one in had] == [".png", ".png", ".jpg"]
    assert [one.source for one in had] == [urls["url"][i] for i in (0, 2, 4)]
    assert failed["url"].tolist() == [urls["url"][1], urls["url"][3]]
    server.asked.clear()
    again, _ = download(urls, tmp_path, LIMITS)
    assert again == had
    assert [path for path, _ in server.asked] == ["/gone", "/page"]


def test_an_image_that_was_altered_or_removed_is_fetched_again(server, tmp_path: Path) -> None:
    urls = table(server, "good/1", "good/2", "good/3")
    had, _ = download(urls, tmp_path, LIMITS)
    had[0].path.write_bytes(b"altered")
    had[1].path.unlink()
    server.asked.clear()
    again, _ = download(urls, tmp_path, LIMITS)
    assert [path for path, _ in server.asked] == ["/good/1", "/good/2"]
    assert [one.path.read_bytes() for one in again] == [image(i) for i in (1, 2, 3)]


DOWNLOAD = """
import sys
from pathlib import Path
from wsol.datasets.backgrounds.web import Limits, download, read_urls
limits = Limits(host_interval=0.1, allowed_networks=("127.0.0.0/8",))
download(read_urls(Path(sys.argv[1])), sys.argv[2], limits)
"""


def test_a_download_that_was_killed_goes_on(server, tmp_path: Path) -> None:
    urls = table(server, *(f"good/{i}" for i in range(40)))
    urls.to_csv(tmp_path / "urls.csv", index=False)
    folder = tmp_path / "set.downloads"
    command = [sys.executable, "-c", DOWNLOAD, str(tmp_path / "urls.csv"), str(folder)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    while len(server.asked) < 5:
        time.sleep(0.02)
    process.kill()
    process.wait()
    for path in folder.glob("*.png"):  # whatever has its name is complete
        Image.open(path).load()
    (folder / f"left.png{PARTIAL}").write_bytes(b"half an image")
    before = len(server.asked)
    assert 5 <= before < 40
    images, _ = download(read_urls(tmp_path / "urls.csv"), folder, LIMITS)
    assert len(server.asked) - 40 <= 12  # at most what was fetched in the last second
    build_background_set(images, tmp_path / "set")
    assert list(folder.glob(f"*{PARTIAL}")) == []
    rows = read_background_set(tmp_path / "set")
    assert rows["source"].tolist() == urls["url"].tolist()
    assert [file_sha256(tmp_path / "set" / file) for file in rows["file"]] == list(rows["sha256"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "cannot be read"),
        ("url\nhttp://a.org/1\n", ":1: the table lacks the columns licence"),
        ("url,licence\nhttp://a.org/1,\n", ":2: no licence"),
        ("url,licence\n,CC0-1.0\n", ":2: no url"),
        ("url,licence\nhttp://a.org/1,x\nhttp://a.org/1 ,x\n", ":3: duplicate url"),
    ],
)
def test_a_table_of_urls_that_lacks_something_is_refused(tmp_path, text: str, why: str) -> None:
    path = tmp_path / "urls.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=why):
        read_urls(path)
