from __future__ import annotations

import contextlib
import csv
import io
import ipaddress
import resource
import socket
import ssl
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

import indexer.sources
from indexer.sources import SourceOptions, open_sources
from indexer.sources import fetch as fetching
from indexer.sources.fetch import Fetcher, is_public
from indexer.sources.web import Room, WebFiles
from phosphene.assemble import Engine
from phosphene.errors import InvalidInput, InvalidManifest, PictureError, PictureFault
from phosphene.jobs import JobName
from phosphene.life import Life, living
from tests.indexer.conftest import save_picture, watch
from tests.indexer.running import counts, quarantined, run

MAX_BYTES = 100_000


class Site:
    """A web site on this machine. `pages` answer by path; `asked` notes (host header, path)."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.headers["Host"], self.path))
                site.pages[self.path](self)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    def url(self, path: str, host: str = "pictures.test") -> str:
        return f"http://{host}:{self.port}{path}"


def answer(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def page(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return page


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever)
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join()


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    """A fetcher that knows *.test names as this machine, and takes 127.0.0.1 for the public internet."""
    fetcher = Fetcher(
        max_bytes=MAX_BYTES,
        allowed=lambda address: address == "127.0.0.1",
        resolve=lambda host, _: ["127.0.0.1"] if host.endswith(".test") else ["127.0.0.2"],
        backoff_s=0.01,
    )
    yield fetcher
    fetcher.close()


def refused(fetcher: Fetcher, url: str) -> PictureError:
    with pytest.raises(PictureError) as caught:
        fetcher.fetch(url)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_picture_is_fetched_by_name_from_the_address_that_was_checked(site: Site, fetcher: Fetcher) -> None:
    site.pages["/a.jpg?size=2"] = answer(200, b"picture")
    assert fetcher.fetch(site.url("/a.jpg?size=2")) == b"picture"
    assert site.asked == [(f"pictures.test:{site.port}", "/a.jpg?size=2")]


def test_redirects_are_followed_to_their_end_and_no_further(site: Site, fetcher: Fetcher) -> None:
    site.pages["/1"] = answer(302, Location="/2")
    site.pages["/2"] = answer(301, Location=site.url("/3", "other.test"))
    site.pages["/3"] = answer(200, b"there")
    site.pages["/circle"] = answer(302, Location="/circle")
    assert fetcher.fetch(site.url("/1")) == b"there"
    assert site.asked[-1] == (f"other.test:{site.port}", "/3")
    assert "more than 5 redirects" in str(refused(fetcher, site.url("/circle")))


def test_every_hop_is_checked(site: Site, fetcher: Fetcher) -> None:
    site.pages["/inside"] = answer(302, Location="http://inside.example/")
    site.pages["/literal"] = answer(302, Location=f"http://[::1]:{site.port}/secret")
    site.pages["/file"] = answer(302, Location="file:///etc/passwd")
    site.pages["/secret"] = answer(200, b"secret")
    assert "not on the public internet" in str(refused(fetcher, site.url("/inside")))
    assert "not on the public internet" in str(refused(fetcher, site.url("/literal")))
    assert "no http or https address" in str(refused(fetcher, site.url("/file")))
    assert ("/secret") not in [path for _, path in site.asked]


def test_a_name_is_resolved_once_so_a_second_answer_gains_nothing(site: Site) -> None:
    site.pages["/a"] = answer(200, b"picture")
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    fetcher = Fetcher(
        max_bytes=MAX_BYTES, allowed=lambda address: address == "127.0.0.1", resolve=lambda *_: answers.pop(0)
    )
    assert fetcher.fetch(site.url("/a")) == b"picture"
    assert len(answers) == 1
    fetcher.close()


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"], []])
def test_a_name_with_one_private_address_is_refused_as_a_whole(site: Site, addresses: list[str]) -> None:
    fetcher = Fetcher(max_bytes=MAX_BYTES, allowed=lambda address: address == "127.0.0.1", resolve=lambda *_: addresses)
    assert refused(fetcher, site.url("/a")).fault is PictureFault.UNREADABLE
    assert site.asked == []
    fetcher.close()


def test_this_machine_is_refused_by_default(site: Site) -> None:
    fetcher = Fetcher(max_bytes=MAX_BYTES)
    for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "[::ffff:127.0.0.1]"):  # noqa: S104
        assert "not on the public internet" in str(refused(fetcher, f"http://{host}:{site.port}/"))
    assert site.asked == []
    fetcher.close()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("2001:0:4136:e378::1", False),
    ],
)
def test_which_addresses_are_public(address: str, *, public: bool) -> None:
    assert is_public(address) is public


@given(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="192.168.0.0/16"))
def test_private_addresses_stay_private_however_they_are_written(
    address: ipaddress.IPv4Address,
) -> None:
    assert not is_public(str(address))
    for mapped in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert not is_public(mapped)


def test_too_much_is_refused_announced_or_not(site: Site, fetcher: Fetcher) -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(bytes(10_000))
        except OSError:
            pass

    site.pages["/announced"] = answer(200, bytes(MAX_BYTES + 1))
    site.pages["/endless"] = endless
    for path in ("/announced", "/endless"):
        assert refused(fetcher, site.url(path)).fault is PictureFault.TOO_MANY_BYTES


def test_what_may_pass_is_tried_again_and_what_stays_is_not(site: Site, fetcher: Fetcher) -> None:
    left = [503, 429]

    def shaky(request: BaseHTTPRequestHandler) -> None:
        answer(left.pop(0) if left else 200, b"at last", Retry_After="0")(request)

    site.pages["/shaky"] = shaky
    site.pages["/gone"] = answer(404)
    site.pages["/down"] = answer(500)
    assert fetcher.fetch(site.url("/shaky")) == b"at last"
    assert str(refused(fetcher, site.url("/gone"))) == "the server answers 404 Not Found"
    assert str(refused(fetcher, site.url("/down"))) == "the server answers 500 Internal Server Error (3 attempts)"
    paths = [path for _, path in site.asked]
    assert [paths.count(path) for path in ("/shaky", "/gone", "/down")] == [3, 1, 3]


def test_of_an_attempt_that_broke_off_nothing_stays(site: Site, fetcher: Fetcher) -> None:
    left = [b"the first answer, which is cut off"]

    def cut(request: BaseHTTPRequestHandler) -> None:
        body = left.pop() if left else b"whole"
        request.send_response(200)
        request.send_header("Content-Length", str(5 if body == b"whole" else 1000))
        request.end_headers()
        request.wfile.write(body)

    site.pages["/cut"] = cut
    assert fetcher.fetch(site.url("/cut")) == b"whole"


def test_nobody_there_and_no_such_name(fetcher: Fetcher) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert "pictures.test does not answer" in str(refused(fetcher, f"http://pictures.test:{port}/"))

    def unknown(*_: object) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    nameless = Fetcher(max_bytes=MAX_BYTES, resolve=unknown, backoff_s=0)
    assert "the name 'nowhere.test' is not known" in str(refused(nameless, "http://nowhere.test/"))
    nameless.close()


@pytest.mark.parametrize(
    "url", ["ftp://pictures.test/", "http://", "http://user:secret@pictures.test/", "http://a b/", "http://[::1/"]
)
def test_addresses_that_are_none(fetcher: Fetcher, url: str) -> None:
    assert refused(fetcher, url).fault is PictureFault.UNREADABLE


def test_compressed_answers_are_refused_since_they_could_unfold(site: Site, fetcher: Fetcher) -> None:
    site.pages["/z"] = answer(200, b"xx", Content_Encoding="gzip")
    assert "compressed" in str(refused(fetcher, site.url("/z")))


def test_a_dripping_answer_has_an_end(site: Site, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b"x")
            time.sleep(0.05)

    site.pages["/drip"] = drip
    monkeypatch.setattr(fetching, "TOTAL_TIMEOUT_S", 0.2)
    assert "took longer" in str(refused(fetcher, site.url("/drip")))


def test_headers_that_drip_have_an_end(site: Site, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(1000):
            request.wfile.write(b"X-%d: x\r\n" % number)
            time.sleep(0.01)

    site.pages["/drip"] = drip
    monkeypatch.setattr(fetching, "TOTAL_TIMEOUT_S", 0.2)
    assert "took longer" in str(refused(fetcher, site.url("/drip")))
    assert len(site.asked) == 1


def test_closing_ends_those_who_wait(site: Site, fetcher: Fetcher) -> None:
    site.pages["/later"] = answer(503, Retry_After="9")
    threading.Timer(0.2, fetcher.close).start()
    assert "interrupted" in str(refused(fetcher, site.url("/later")))


def test_tls_is_verified_for_the_name_though_the_address_is_pinned(
    site: Site, fetcher: Fetcher, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pictures.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pictures.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "both.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
    assert "certificate of pictures.test is not valid" in str(
        refused(fetcher, f"https://pictures.test:{site.port}/a.jpg")
    )
    assert asked == ["pictures.test"]
    assert site.asked == []


@pytest.fixture
def web(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site as part of the public internet, for sources."""
    known = partial(
        Fetcher,
        allowed=lambda address: address == "127.0.0.1",
        resolve=lambda host, _: ["127.0.0.1"] if host.endswith(".test") else ["127.0.0.2"],
        backoff_s=0.01,
    )
    monkeypatch.setattr(indexer.sources, "Fetcher", known)
    return site


def as_csv(*rows: tuple[str, ...]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue().encode()


def as_tar(**members: bytes) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return written.getvalue()


def test_manifests_and_lists_on_the_web_name_pictures_beside_them(web: Site) -> None:
    rows = [("file", "title"), ("a#1.jpg", "A"), (web.url("/b.jpg"), "B"), ("/c.jpg", "C"), ("file:///etc/passwd", "D")]
    table = io.BytesIO()
    pq.write_table(pa.table({"file": [file for file, _ in rows[1:]], "title": [title for _, title in rows[1:]]}), table)
    web.pages["/shop/m.csv?key=1"] = answer(200, as_csv(*rows))
    web.pages["/shop/m.parquet"] = answer(200, table.getvalue())
    web.pages["/shop/list.txt"] = answer(200, f"# one\n{web.url('/b.jpg')}\n".encode())
    for path in ("/shop/a%231.jpg", "/b.jpg", "/c.jpg"):
        web.pages[path] = answer(200, path.encode())
    outside = SourceOptions(fetch_urls=True, local_files=False)
    for manifest in ("/shop/m.csv?key=1", "/shop/m.parquet"):
        sources = open_sources([web.url(manifest)], outside)
        assert sources.count() == 4
        items = list(sources)
        assert [(item.title, item.read()) for item in items[:3]] == [
            ("A", b"/shop/a%231.jpg"),
            ("B", b"/b.jpg"),
            ("C", b"/c.jpg"),
        ]
        with pytest.raises(PictureError, match="no http or https address"):
            items[3].read()
        sources.close()
    listed = open_sources([web.url("/shop/list.txt")], outside)
    assert [item.read() for item in listed] == [b"/b.jpg"]
    listed.close()


def test_metadata_may_lie_on_the_web(web: Site, tmp_path: Path) -> None:
    web.pages["/m.csv"] = answer(200, as_csv(("file", "title"), ("0.png", "Nought")))
    save_picture(tmp_path / "0.png", seed=0)
    sources = open_sources([str(tmp_path)], SourceOptions(fetch_urls=True, metadata=web.url("/m.csv")))
    assert [item.title for item in sources] == ["Nought"]
    sources.close()


def test_what_can_not_be_had_of_the_web_is_said_before_the_first_picture(web: Site) -> None:
    web.pages["/gone.csv"] = answer(404)
    web.pages["/wrong.csv"] = answer(200, as_csv(("title",), ("A",)))
    web.pages["/large.csv"] = answer(200, as_csv(("file",), *([("a.jpg",)] * 1000)))
    inside = f"http://inside.example:{web.port}/m.csv"
    for spec, reason in [
        (web.url("/gone.csv"), r"/gone.csv: the server answers 404"),
        (inside, "inside.example is not on the public internet"),
        (web.url("/large.csv"), r"more than 2,000 bytes \(PHOSPHENE_MAX_DOWNLOAD_BYTES\)"),
    ]:
        with pytest.raises(InvalidInput, match=reason):
            open_sources([spec], SourceOptions(fetch_urls=True, max_download_bytes=2000))
    with pytest.raises(InvalidManifest, match=r"/wrong.csv: row 1: no column names the picture"):
        open_sources([web.url("/wrong.csv")], SourceOptions(fetch_urls=True))
    with pytest.raises(InvalidInput, match="PHOSPHENE_FETCH_URLS"):
        open_sources(["/nowhere"], SourceOptions(metadata=web.url("/gone.csv")))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(InvalidInput, match=r"/large.csv can't be kept in .*: File too large"):
            open_sources([web.url("/large.csv")], SourceOptions(fetch_urls=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_lines_on_the_web_have_an_end_and_no_password_is_told(web: Site) -> None:
    web.pages["/line.csv"] = answer(200, b"file\n" + b"a" * (5 * 2**20))
    web.pages["/row.csv"] = answer(200, b"file\n" + b'"a\n",' * 2**20)
    web.pages["/list.txt"] = answer(200, b"# " + b"a" * 2**17)
    for path, said in [
        ("/line.csv", "row 1: can't be read: it is longer than 4,194,304 characters"),
        ("/row.csv", "row 1: can't be read: it is longer than 4,194,304 characters"),
        ("/list.txt", "line 1 is longer than 65,536 characters"),
    ]:
        with pytest.raises(InvalidManifest, match=said):
            open_sources([web.url(path)], SourceOptions(fetch_urls=True))
    for options in (SourceOptions(), SourceOptions(fetch_urls=True)):
        with pytest.raises(InvalidInput, match=r"http://\*\*\*@pictures.test/m.csv"):
            open_sources(["http://me:secret@pictures.test/m.csv"], options)
    sources = open_sources(["https://me:secret@pictures.test/a.jpg?to=b@c"], SourceOptions(fetch_urls=True))
    assert [item.uri for item in sources] == ["https://***@pictures.test/a.jpg?to=b@c"]
    sources.close()


def test_lists_on_the_web_share_what_they_may_take_and_go_when_they_were_read(web: Site) -> None:
    lists = [f"/{number}.txt" for number in range(3)]
    for path in lists:
        web.pages[path] = answer(200, f"{web.url('/a.jpg')}\n#{'x' * 1000}\n".encode())
    web.pages["/a.jpg"] = answer(200, b"picture")
    options = SourceOptions(fetch_urls=True, max_download_bytes=2500)
    with pytest.raises(InvalidInput, match=r"/2.txt: beside 2,0.. bytes of other lists more than 4.. bytes"):
        open_sources([web.url(path) for path in lists], options)
    sources = open_sources([web.url(path) for path in lists[:2]], options)
    assert sources._room.kept > 2000
    assert len(list(sources)) == 2
    assert sources._room.kept == 0
    sources.close()


def read_first(spec: str, options: SourceOptions) -> None:
    with contextlib.closing(open_sources([spec], options)) as sources:
        next(iter(sources)).read()


def test_what_a_query_holds_is_not_told(web: Site) -> None:
    signed = "?id=7&X-Amz-Signature=s3cret&token=s3cret"
    web.pages[f"/m.csv{signed}"] = answer(200, b"title\nA\n")
    web.pages[f"/gone.csv{signed}"] = answer(404)
    web.pages[f"/list.txt{signed}"] = answer(200, f"ftp://x/{signed}".encode())
    web.pages[f"/no.tar{signed}"] = answer(200, b"no tar")
    web.pages[f"/a.jpg{signed}"] = answer(302, Location=f"/a.jpg{signed}")
    for path in ("/m.csv", "/gone.csv", "/list.txt", "/no.tar"):
        for options in (SourceOptions(), SourceOptions(fetch_urls=True)):
            with pytest.raises((InvalidInput, PictureError)) as caught:
                read_first(web.url(path) + signed, options)
            assert "s3cret" not in str(caught.value)
    sources = open_sources([web.url("/a.jpg") + signed], SourceOptions(fetch_urls=True))
    (item,) = sources
    assert item.uri == web.url("/a.jpg?id=7&X-Amz-Signature=***&token=s3cret")
    with pytest.raises(PictureError) as caught:
        item.read()
    assert "/a.jpg?id=***&X-Amz-Signature=***&token=***" in str(caught.value)
    sources.close()
    with pytest.raises(InvalidInput) as refusal:
        open_sources(["ftp://x/a.jpg?token=s3cret"], SourceOptions())
    assert "s3cret" not in str(refusal.value)


def test_what_is_read_stays_that_file_whoever_closes_it(web: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    web.pages["/m.csv"] = answer(200, b"ours")
    (tmp_path / "other").write_bytes(b"theirs")
    files = WebFiles(web.url("/m.csv"), fetcher=fetcher, room=Room(100))
    with files.open("") as reading:
        files.close()
        with (tmp_path / "other").open("rb"):
            assert reading.read() == b"ours"
    assert reading.closed


def test_fetching_shows_life(web: Site, engine: Engine, tmp_path: Path) -> None:
    """A list whose server lets each address wait is no job that hangs."""
    life = Life(JobName.INGEST)
    last_asked, too_late = threading.Event(), threading.Event()
    data = save_picture(tmp_path / "0.png", seed=0).read_bytes()

    def last(request: BaseHTTPRequestHandler) -> None:
        life.seen = 0
        last_asked.set()
        while life.seen == 0 and not too_late.wait(0.01):
            pass
        answer(200, data)(request)

    def first(request: BaseHTTPRequestHandler) -> None:
        last_asked.wait(60)
        answer(404)(request)

    web.pages["/first"], web.pages["/last"] = first, last
    web.pages["/list.txt"] = answer(200, f"{web.url('/first')}\n{web.url('/last')}\n".encode())
    timer = threading.Timer(20, too_late.set)
    timer.start()
    with living(life):
        life.seen = 0
        open_sources([web.url("/list.txt")], SourceOptions(fetch_urls=True)).close()
        assert life.seen > 0
        assert counts(run(engine, web.url("/list.txt"), fetch_urls=True)) == (1, 0, 0, 1)
    timer.cancel()
    assert not too_late.is_set()


def test_archives_on_the_web_are_ingested_and_their_members_known_again(
    web: Site, engine: Engine, tmp_path: Path
) -> None:
    pictures = {f"{seed}.png": save_picture(tmp_path / f"{seed}.png", seed=seed).read_bytes() for seed in range(3)}
    shard = as_tar(**pictures, **{"0.txt": b"Nought"})
    web.pages["/0.tar"] = answer(200, shard)
    web.pages["/1.tar"] = answer(404)
    sources = (web.url("/0.tar"), web.url("/1.tar"))
    assert counts(run(engine, *sources, fetch_urls=True)) == (3, 0, 0, 1)
    (bad,) = quarantined(engine).values()
    assert (bad.uri, bad.fault) == (web.url("/1.tar"), PictureFault.UNREADABLE)
    assert "404 Not Found" in bad.reason
    watched = watch(engine)
    assert counts(run(engine, *sources, fetch_urls=True)) == (0, 3, 0, 1)
    assert watched.pictures == 0
    web.pages["/0.tar"] = answer(200, shard[:1200])
    cut = run(engine, sources[0], fetch_urls=True)
    assert cut.counts.quarantined == 1
    assert "the archive is damaged and was read up to" in quarantined(engine)["0.tar"].reason
