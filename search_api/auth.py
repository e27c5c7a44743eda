"""Who is asking: API keys name tenants; without keys, whoever is on this machine is the default tenant.

With `PHOSPHENE_API_KEYS` set, every /v1 request needs `Authorization: Bearer SECRET` or `X-API-Key: SECRET`. Without,
the server listens on loopback only (server.py refuses anything else), and two more doors are shut, since browsers let
any web page send requests to this machine: a Host header that isn't this machine's (DNS rebinding), and requests that
change something from a page of another origin (CSRF). A secret in the data folder (`X-Phosphene-Local-Token`) shows
that the caller may read that folder anyway: it allows paths of this machine as sources.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from phosphene.errors import Forbidden
from phosphene.settings import Settings, is_loopback
from phosphene.types import DEFAULT_TENANT, TenantId

LOCAL_TOKEN_HEADER = "X-Phosphene-Local-Token"  # noqa: S105  a header's name, not a secret
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller. `local` ones may name files of this machine."""

    tenant: TenantId
    local: bool


class Doorkeeper:
    """Decides from a request's headers who asks, before its body is read."""

    def __init__(self, settings: Settings, *, local_token: str | None) -> None:
        pairs = (key.get_secret_value().partition(":") for key in settings.api_keys)
        self._tenants = [(secret.encode(), TenantId(tenant)) for tenant, _, secret in pairs]
        self._local_token = local_token.encode() if local_token else None
        key = settings.metrics_key
        self._metrics_key = key.get_secret_value().encode() if key is not None else None

    @property
    def loopback(self) -> bool:
        """Whether there are no keys, and so only this machine may ask."""
        return not self._tenants

    def check_host(self, headers: Headers) -> None:
        """Refuse, without keys, a name that isn't this machine's: some page has pointed its own name here."""
        host = headers.get("host", "")
        if self.loopback and not is_loopback(_name_of(host)):
            message = f"the Host header {host[:80]!r} is not this machine's: use http://127.0.0.1 or http://localhost"
            raise HTTPException(400, message)

    def check_origin(self, method: str, headers: Headers) -> None:
        """Refuse requests that change something and come from a page of another origin."""
        if method in _SAFE_METHODS or not self.loopback:
            return
        site = headers.get("sec-fetch-site")
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
        if foreign or site not in (None, "same-origin", "none"):
            raise Forbidden("a page of another origin can't change anything here")

    def check_scraper(self, headers: Headers) -> None:
        """Refuse those who may not read metrics, which tell of all tenants. Raises HTTPException 401, Forbidden.

        With PHOSPHENE_METRICS_KEY whoever sends it may; without it, only this machine, where there are no API keys.
        """
        token, given = headers.get(LOCAL_TOKEN_HEADER), _key_in(headers)
        if token is not None and self._local_token is not None and _same(token, self._local_token):
            return
        if self._metrics_key is None:
            if not self.loopback:
                raise Forbidden("metrics tell of all tenants: set PHOSPHENE_METRICS_KEY, and let the scraper send it")
        elif given is None or not _same(given, self._metrics_key):
            what = "need PHOSPHENE_METRICS_KEY" if given is None else "were asked for with another key"
            message = f"metrics {what}: send Authorization: Bearer KEY"
            raise HTTPException(401, message, headers={"WWW-Authenticate": 'Bearer realm="phosphene metrics"'})

    def identify(self, headers: Headers) -> Principal:
        """Name the caller. Raises HTTPException 401."""
        token = headers.get(LOCAL_TOKEN_HEADER)
        local = token is not None and self._local_token is not None and _same(token, self._local_token)
        if token is not None and not local:
            raise HTTPException(401, "the local token is not this server's: it changes when the server starts")
        if self.loopback:
            return Principal(DEFAULT_TENANT, local)
        given = _key_in(headers)
        if given is None and local:
            return Principal(DEFAULT_TENANT, local)
        # All are compared, so that the time taken tells nothing.
        tenants = [tenant for secret, tenant in self._tenants if given is not None and _same(given, secret)]
        if not tenants:
            what = "needs an API key" if given is None else "was sent with an unknown API key"
            message = f"this request {what}: send Authorization: Bearer KEY or X-API-Key: KEY"
            raise HTTPException(401, message, headers={"WWW-Authenticate": 'Bearer realm="phosphene"'})
        return Principal(tenants[0], local)


def principal_of(request: Request) -> Principal:
    """Give the caller that the guard has identified."""
    found: Principal = request.scope["phosphene.principal"]
    return found


PrincipalDep = Annotated[Principal, Depends(principal_of)]


def _key_in(headers: Headers) -> str | None:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return headers.get("x-api-key")


def _same(given: str, secret: bytes) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret)


def _name_of(host: str) -> str:
    """Give the host of `host:port`, lower case, without the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
