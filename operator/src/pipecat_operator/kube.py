"""The few raw Kubernetes API calls, and their errors.

Raw aiohttp, because a session costs a handful of calls and the generated clients cost five times the CPU for
each. Credentials come from kopf's own login helpers, so that both speak to the same cluster as the same user.

Errors::

    ApiError                 anything the API server or the network refused
     +-- NotFound            404
     +-- AlreadyExists       409 on create
     +-- Conflict            409, 412: somebody changed it meanwhile; asking again may help
     +-- OtherObject         a JSON Patch test failed: the object of that name is not the one we mean
     +-- Expired             410: the watch or list must begin again
     +-- Refused             400, 403, 405, 413, 415, 422, 500 of too large an object: asking again changes nothing
     +-- Unavailable         401, 408, 429, 5xx, no answer: asking again later may help
"""

import base64
import json
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import kopf
import orjson
from yarl import URL

from pipecat_operator import names
from pipecat_operator.connections import Connector

Object = dict[str, Any]
"""A Kubernetes object as JSON."""

REQUEST_TIMEOUT_S: Final = 30.0
DEEPEST_JSON: Final = 10_000
"""Levels of nesting that the API server stores; one such object must not end who lists them all."""
CREDENTIALS_MAX_AGE_S: Final = 60.0
"""Projected service-account tokens change on disk about every hour."""

TOO_LARGE: Final = ("request is too large", "message larger than max")
"""What etcd, and the API server's way to it, say with a 500 of an object that can't be stored."""


class ApiError(Exception):
    """A call to the API server that failed.

    ``status``: the HTTP status (0: no answer); ``reason``: Kubernetes' word; ``message``: its sentence.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{message} ({status} {reason})" if status else message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.call = ""
        """Method and path."""


class NotFound(ApiError):
    """404."""


class AlreadyExists(ApiError):
    """409 on create."""


class Conflict(ApiError):
    """Somebody changed it meanwhile."""


class OtherObject(ApiError):
    """The object of that name is not, or no longer, the one we mean."""


class Expired(ApiError):
    """410: the resource version is too old."""


class Refused(ApiError):
    """The request itself is at fault."""

    @property
    def lacks_a_right(self) -> bool:
        """Of all that refuse with a 403, RBAC alone names the user.

        It may be given yet; or read yet: an API server that has just started refuses until it has read the roles.
        """
        return self.status == 403 and 'is forbidden: User "' in self.message


class Unavailable(ApiError):
    """The API server could not answer now."""


def bear_deep_json() -> None:
    """Let this process read (with kopf, too) whatever the API server stores: Python stops at 1,000 levels."""
    sys.setrecursionlimit(2 * DEEPEST_JSON)


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the API, and the paths of its objects."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
        """The URL path; no namespace means all of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, sub) if part]
        return "/".join(parts)


BOTS: Final = Resource(names.GROUP, names.VERSION, "bots")
SESSIONS: Final = Resource(names.GROUP, names.VERSION, "botsessions")
JOBS: Final = Resource("batch", "v1", "jobs")
PODS: Final = Resource("", "v1", "pods")
SECRETS: Final = Resource("", "v1", "secrets")
EVENTS: Final = Resource("", "v1", "events")
CONFIGMAPS: Final = Resource("", "v1", "configmaps")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")


def where(resource: Resource, namespace: str | None) -> str:
    """For a log line, with what to do should it be about a namespace that is gone."""
    if namespace is None:
        return resource.plural
    return f"{resource.plural} of {namespace} (is it deleted? take it out of the watched namespaces)"


def login() -> kopf.ConnectionInfo:
    """The credentials of the pod's service account, else of the kubeconfig.

    Raises:
        RuntimeError: neither is there.
    """
    settings = kopf.OperatorSettings()
    try:
        info = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    except OSError as error:
        raise RuntimeError(f"No Kubernetes credentials: {error.filename}: {error.strerror}.") from error
    if info is None:
        raise RuntimeError("No Kubernetes credentials: run in a pod with a service account, or set KUBECONFIG.")
    return info


def ssl_context(info: kopf.ConnectionInfo) -> ssl.SSLContext:
    """TLS as the credentials ask: their CA, their client certificate."""
    cafile, cadata = info.ca_path, _decoded(info.ca_data)
    context = ssl.create_default_context(cafile=cafile, cadata=cadata)
    if info.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate = _decoded(info.certificate_data)
    key = _decoded(info.private_key_data)
    if info.certificate_path and info.private_key_path:
        context.load_cert_chain(info.certificate_path, info.private_key_path)
    elif certificate and key:
        # The ssl module loads client certificates from files only.
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "client.pem"
            file.touch(mode=0o600)
            file.write_text(certificate + "\n" + key)
            context.load_cert_chain(file)
    return context


def _decoded(data: str | bytes | None) -> str | None:
    if not data:
        return None
    text = data.decode() if isinstance(data, bytes) else data
    return text if "-----BEGIN" in text else base64.b64decode(text).decode()


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, and the resource version of the whole."""

    items: list[Object]
    version: str


class Kube:
    """A client of one API server.

    ``guard`` is called before every request, and once it has its connection; the leader's Lease raises from it once
    leadership may be lost.
    """

    def __init__(
        self,
        login: Callable[[], kopf.ConnectionInfo] = login,
        guard: Callable[[], None] = lambda: None,
        connections: int = 50,
    ) -> None:
        self._login = login
        self._info = login()
        self._info_at = time.monotonic()
        self._guard = guard
        self._http = aiohttp.ClientSession(
            connector=Connector(guard, ssl=ssl_context(self._info), limit=connections),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop every connection."""
        await self._http.close()

    @property
    def default_namespace(self) -> str | None:
        """The namespace of the service account or of the kubeconfig's context."""
        return self._info.default_namespace

    def _url(self, path: str) -> URL:
        # Kubernetes' names need no quoting: looking for what does costs a third of a call.
        return URL(self._info.server.rstrip("/") + path, encoded=True)

    def _headers(self) -> dict[str, str]:
        if time.monotonic() - self._info_at > CREDENTIALS_MAX_AGE_S:
            self._info = self._login()
            self._info_at = time.monotonic()
        return self._info.as_http_headers()

    async def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        self._guard()
        try:
            return await self._send(method, path, body, params, content_type)
        except ApiError as error:
            error.call = f"{method} {path}"
            raise

    async def _send(
        self, method: str, path: str, body: Any, params: dict[str, str] | None, content_type: str
    ) -> Object:
        headers = {**self._headers(), "Content-Type": content_type}
        try:
            async with self._http.request(
                method, self._url(path), data=None if body is None else _written(body), params=params, headers=headers
            ) as response:
                if response.status >= 400:
                    raise await _error(method, response)
                answer: Object = _read(await response.read())
                return answer
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(0, type(error).__name__, f"no answer to {method} {path}: {error}") from error

    async def get(self, resource: Resource, namespace: str, name: str, *, cached: bool = False) -> Object:
        """One object. ``cached``: from the API server's memory, at about half the cost; what was just written may be
        missing there, and what was deleted still be there.
        """
        params = {"resourceVersion": "0"} if cached else None
        return await self._call("GET", resource.path(namespace, name), params=params)

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        """Make an object; answers it as stored."""
        return await self._call("POST", resource.path(namespace), body)

    async def json_patch(
        self, resource: Resource, namespace: str, name: str, patch: list[Object], sub: str | None = None
    ) -> Object:
        """Apply a JSON Patch (RFC 6902); a failed ``test`` raises OtherObject."""
        path = resource.path(namespace, name, sub)
        return await self._call("PATCH", path, patch, content_type="application/json-patch+json")

    async def put_status(
        self, resource: Resource, namespace: str, name: str, uid: str, status: dict[str, Any]
    ) -> Object:
        """Put the whole status of the object of that UID; answers it as stored.

        Raises:
            NotFound, OtherObject: it is gone. (A merge patch with another UID would be accepted.)
        """
        patch: list[Object] = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        return await self.json_patch(resource, namespace, name, patch, sub="status")

    async def replace(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        """Put the whole object; its resourceVersion must still be the stored one."""
        return await self._call("PUT", resource.path(namespace, name), body)

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str, grace_s: int | None = None) -> None:
        """Delete the object of that UID, its dependants after it; gone already is as good.

        ``grace_s``: instead of the pod's own; 0 removes it at once, which only its node may do.
        """
        body: Object = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        try:
            await self._call("DELETE", resource.path(namespace, name), body)
        except NotFound:
            return
        except Conflict:
            # Another object has the name now, or ours was only changed just then.
            if await self.exists(resource, namespace, name, uid):
                raise

    async def exists(self, resource: Resource, namespace: str, name: str, uid: str) -> bool:
        """Whether the object of that name has that UID."""
        try:
            there = await self.get(resource, namespace, name)
        except NotFound:
            return False
        return bool(there["metadata"]["uid"] == uid)

    async def pages(
        self, resource: Resource, namespace: str | None, params: dict[str, str] | None = None, size: int = 500
    ) -> AsyncIterator[Page]:
        """Every object as of one moment, page by page; at least one page.

        Raises rather than end early: a cut list looks like missing objects.
        """
        query = {**(params or {}), "limit": str(size)}
        while True:
            answer = await self._call("GET", resource.path(namespace), params=query)
            metadata = answer.get("metadata") or {}
            yield Page(answer.get("items") or [], str(metadata.get("resourceVersion", "")))
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    async def list(
        self, resource: Resource, namespace: str | None, params: dict[str, str] | None = None
    ) -> tuple[list[Object], str]:
        """Every object at once, and the resource version to watch from."""
        items: list[Object] = []
        async for page in self.pages(resource, namespace, params):
            items += page.items
        return items, page.version

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        params: dict[str, str],
        inactivity_s: float,
    ) -> AsyncIterator[Object]:
        """Watch events as they come, until the server ends the stream or is silent for ``inactivity_s``."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_S, sock_read=inactivity_s)
        query = {**params, "watch": "true", "allowWatchBookmarks": "true"}
        path = resource.path(namespace)
        self._guard()
        try:
            async with self._http.get(
                self._url(path), params=query, headers=self._headers(), timeout=timeout
            ) as response:
                if response.status >= 400:
                    raise await _error("GET", response)
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line:
                            yield _event(_read(line))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(0, type(error).__name__, f"the watch of {path} broke: {error}") from error


def _read(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        # It stops at 1,024 levels, the API server doesn't.
        return json.loads(text)


def _written(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # It stops at 254 levels, and at half a surrogate pair.
        return json.dumps(value, separators=(",", ":")).encode()


def _event(event: Object) -> Object:
    if event.get("type") == "ERROR":
        status = event.get("object") or {}
        raise error_of("GET", int(status.get("code") or 0), status)
    return event


async def _error(method: str, response: aiohttp.ClientResponse) -> ApiError:
    text = await response.text()
    try:
        status = json.loads(text)
    except ValueError:
        status = {}
    if not isinstance(status, dict):
        status = {}
    status.setdefault("message", text[:300] or response.reason)
    retry_after = response.headers.get("Retry-After", "")
    return error_of(method, response.status, status, float(retry_after) if retry_after.isdigit() else None)


def error_of(method: str, code: int, status: Object, retry_after: float | None = None) -> ApiError:
    """The error of a Kubernetes ``Status``. Pure."""
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    kind: type[ApiError]
    if code == 404:
        kind = NotFound
    elif code == 409 and method == "POST" and reason == "AlreadyExists":
        kind = AlreadyExists
    elif code in (409, 412):
        kind = Conflict
    elif code == 422 and method == "PATCH" and not (status.get("details") or {}).get("causes"):
        # A JSON Patch whose test failed is refused without a cause; what breaks the schema has one.
        kind = OtherObject
    elif code == 500 and any(words in message for words in TOO_LARGE):
        kind = Refused
    elif code == 410:
        kind = Expired
    elif code in (401, 408, 429) or code >= 500 or code == 0:
        kind = Unavailable
    else:
        kind = Refused
    return kind(code, reason, message, retry_after)
