"""Files from the web: only public addresses, resolved once and pinned, checked again on every redirect.

A name is resolved here, and the connection goes to the address that was checked, so that a name which resolves to a
public address now and to 127.0.0.1 a moment later gains nothing. TLS still verifies the name. No proxy is used, since
it would resolve names by itself.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import IO

import httpx2

from indexer.sources.deadline import Line
from indexer.sources.items import Answer
from indexer.sources.validators import Validators
from phosphene.addresses import told
from phosphene.errors import PictureError, PictureFault
from phosphene.life import show_life

MAX_REDIRECTS = 5
ATTEMPTS = 3
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 15.0
TOTAL_TIMEOUT_S = 60.0  # one picture, however slowly it drips
DOWNLOAD_TIMEOUT_S = 3600.0  # one manifest or archive
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_WAIT_S = 10.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Resolve = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Allowance:
    """What one answer may take."""

    max_bytes: int
    setting: str  # that holds them
    total_s: float


@dataclass(frozen=True, slots=True)
class _End:
    """Where the redirects ended: how what lies there is known again, and whether it is what was known before."""

    validators: Validators | None
    unchanged: bool


class _TryAgain(Exception):
    """The server may answer later."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def is_public(address: str) -> bool:
    """Tell whether an IP address belongs to the public internet, IPv4 hidden in IPv6 included."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        hidden = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            hidden = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if ip.teredo is not None or ip.is_site_local:
            return False
        if hidden is not None:
            return is_public(str(hidden))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def resolve(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of a name. Raises OSError."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Fetcher:
    """Fetches pictures and lists; thread-safe. `allowed` and `resolve` are for tests that serve from this machine."""

    def __init__(
        self,
        *,
        max_bytes: int,
        allowed: Callable[[str], bool] = is_public,
        resolve: Resolve = resolve,
        backoff_s: float = 0.5,
    ) -> None:
        self._max_bytes = max_bytes
        self._allowed = allowed
        self._resolve = resolve
        self._backoff_s = backoff_s
        self._closed = threading.Event()
        self._client = httpx2.Client(
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            # Connections are not kept: they are known by address, and two names at one address must not share TLS.
            limits=httpx2.Limits(max_connections=64, max_keepalive_connections=0),
            headers={"User-Agent": "phosphene", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"},
        )

    def fetch(self, url: str) -> bytes:
        """Fetch a picture, trying again where that may help. Raises PictureError."""
        into = BytesIO()
        self._try(url, into, self._for_a_picture(), None)
        return into.getvalue()

    def ask(self, url: str, fingerprint: str | None) -> Answer:
        """Fetch a picture like `fetch`, unless the server says that it still is the one of that fingerprint."""
        into = BytesIO()
        end = self._try(url, into, self._for_a_picture(), Validators.parse(fingerprint))
        data = None if end.unchanged else into.getvalue()
        return Answer(data, None if end.validators is None else end.validators.fingerprint)

    def _for_a_picture(self) -> _Allowance:
        return _Allowance(self._max_bytes, "PHOSPHENE_MAX_PICTURE_BYTES", TOTAL_TIMEOUT_S)

    def download(self, url: str, into: IO[bytes], *, max_bytes: int) -> None:
        """Fetch a manifest, a list or an archive into a file. Raises PictureError and OSError."""
        self._try(url, into, _Allowance(max_bytes, "PHOSPHENE_MAX_DOWNLOAD_BYTES", DOWNLOAD_TIMEOUT_S), None)

    def _try(self, url: str, into: IO[bytes], allowance: _Allowance, known: Validators | None) -> _End:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._follow(url, into, allowance, known)
            except _TryAgain as error:
                if attempt == ATTEMPTS:
                    raise _unreadable(f"{error} ({ATTEMPTS} attempts)") from error
                pause_s = self._backoff_s * 2 ** (attempt - 1) * random.uniform(1, 1.5)  # noqa: S311  no secret
                if self._closed.wait(min(error.wait_s or pause_s, _MAX_WAIT_S)):
                    raise _unreadable("the fetch was interrupted") from error
        raise AssertionError

    def close(self) -> None:
        """Stop waiting fetches and let go of connections."""
        self._closed.set()
        self._client.close()

    def _follow(self, url: str, into: IO[bytes], allowance: _Allowance, known: Validators | None) -> _End:
        deadline = time.monotonic() + allowance.total_s
        for _ in range(MAX_REDIRECTS + 1):
            with Line(deadline) as line:
                end = self._get(_checked_url(url), into, allowance, line, known)
            if isinstance(end, _End):
                return end
            url = end
        raise _unreadable(f"more than {MAX_REDIRECTS} redirects, the last to {told(url)[:200]}")

    def _get(
        self, url: httpx2.URL, into: IO[bytes], allowance: _Allowance, line: Line, known: Validators | None
    ) -> _End | str:
        """Write the answer, if it is not what is known; or return the address of the next hop."""
        port = url.port or (443 if url.scheme == "https" else 80)
        address = self._address(url.host, port)
        conditions = {} if known is None else known.conditions(str(url))
        request = self._client.build_request(
            "GET",
            url.copy_with(host=address),
            headers={"Host": url.netloc.decode("ascii"), **conditions},
            extensions={"sni_hostname": url.host, "trace": line.trace},
        )
        try:
            response = self._client.send(request, stream=True)
            try:
                if response.has_redirect_location:
                    return str(url.join(response.headers["location"]))
                if conditions and response.status_code == httpx2.codes.NOT_MODIFIED:
                    return _End(known, unchanged=True)
                self._check_status(response)
                self._write_body(response, into, allowance, line.deadline)
                if line.cut:  # where no length was told, that looks like the end
                    raise _took_longer(allowance)
                return _End(Validators.of(str(url), response.headers), unchanged=False)
            finally:
                response.close()
        except (httpx2.TransportError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile
            if isinstance(error, httpx2.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise _unreadable(f"the certificate of {url.host} is not valid: {error}") from error
            if line.cut:
                raise _took_longer(allowance) from error
            raise _TryAgain(f"{url.host} does not answer: {str(error) or type(error).__name__}") from error
        except (httpx2.InvalidURL, ValueError) as error:
            raise _unreadable(f"{url.host} redirects to an address that can't be read: {error}") from error

    def _address(self, host: str, port: int) -> str:
        try:
            addresses = list(self._resolve(host, port))
        except (OSError, UnicodeError) as error:
            raise _TryAgain(f"the name {host!r} is not known: {error}") from error
        # One private address among public ones is how rebinding looks: refuse the name as a whole.
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise _unreadable(f"{host} is not on the public internet; only public addresses are fetched")
        return addresses[0]

    @staticmethod
    def _check_status(response: httpx2.Response) -> None:
        if response.status_code == httpx2.codes.OK:
            return
        said = f"the server answers {response.status_code} {response.reason_phrase}".strip()
        if response.status_code in _RETRIED:
            after = response.headers.get("retry-after", "")
            raise _TryAgain(said, float(after) if after.isdecimal() else None)
        raise _unreadable(said)

    def _write_body(self, response: httpx2.Response, into: IO[bytes], allowance: _Allowance, deadline: float) -> None:
        if response.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
            raise _unreadable("the server compressed the answer though it was asked not to")
        into.seek(0)  # an earlier attempt may have written some of it
        into.truncate()
        size = 0
        for part in response.iter_raw():
            size += len(part)
            show_life()  # an archive of gigabytes takes its time
            if size > allowance.max_bytes:
                raise PictureError(
                    PictureFault.TOO_MANY_BYTES,
                    f"more than {allowance.max_bytes:,} bytes ({allowance.setting}); the rest was not fetched",
                )
            if self._closed.is_set():
                raise _unreadable("the fetch was interrupted")
            if time.monotonic() > deadline:
                raise _took_longer(allowance)
            rest = memoryview(part)
            while rest:  # an unbuffered file may take less at a time
                rest = rest[into.write(rest) :]


def _checked_url(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise _unreadable(f"{told(url)[:200]!r} is no web address: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise _unreadable(f"{told(url)[:200]!r} is no http or https address")
    if parsed.userinfo:
        raise _unreadable("the address holds a name and password, which are not sent")
    return parsed


def _took_longer(allowance: _Allowance) -> PictureError:
    return _unreadable(f"the answer took longer than {allowance.total_s:.0f} s")


def _unreadable(reason: str) -> PictureError:
    return PictureError(PictureFault.UNREADABLE, reason)
