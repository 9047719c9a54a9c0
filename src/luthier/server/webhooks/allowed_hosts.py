"""Where webhooks may go. Nowhere by default; never, by accident, into the server's own network."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from luthier.errors import LuthierError, RequestError

_PORTS = {"https": 443, "http": 80}
_LONGEST = 2048
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class WebhookError(LuthierError):
    """A webhook that cannot be delivered now, or not at all."""


class AllowedHost(NamedTuple):
    """What `--webhook-host` says: a host, or a name's end that begins with a dot."""

    scheme: str
    host: str
    port: int

    @property
    def is_exact(self) -> bool:
        """Whether one host is meant; it may then lie in a private network."""
        return not self.host.startswith(".")

    def fits(self, scheme: str, host: str, port: int) -> bool:
        """Whether an address is meant by this."""
        same = host == self.host if self.is_exact else host.endswith(self.host)
        return same and (scheme, port) == (self.scheme, self.port)


class Target(NamedTuple):
    """Where a webhook goes: its address with the host replaced by the IP that was checked."""

    url: str
    host: str  # for the Host header and the certificate
    header: str


def allowed_host(text: str) -> AllowedHost:
    """Read `[http://]HOST[:PORT]`; `.example.com` means all hosts below example.com.

    Raises:
        RequestError: it is something else.
    """
    wrong = RequestError(
        f"--webhook-host {text!r}: write a host name, or .example.com for all hosts below it; with "
        ":PORT where it is not 443; with http:// before it where it is not https."
    )
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, port = _host(parts), parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in _PORTS or not host.strip(".") or parts.path or parts.query:
        raise wrong
    return AllowedHost(parts.scheme, host, port or _PORTS[parts.scheme])


class WebhookHosts:
    """The allow-list; an empty one allows nothing."""

    def __init__(self, allowed: Sequence[AllowedHost]) -> None:
        self._allowed = tuple(allowed)

    def check(self, url: str) -> None:
        """Raise `RequestError` unless a webhook may go to `url`. Nothing is looked up."""
        if not self._allowed:
            raise RequestError(
                "webhooks are off: start the server with --webhook-host, or leave webhook out."
            )
        self._rule(url)

    def target(self, url: str) -> Target:
        """Look up where `url` leads now. The connection goes to that IP, so that a name that means
        another one a moment later changes nothing.

        Raises:
            RequestError: it is not allowed (any more).
            WebhookError: the name is unknown, or means a private address.
        """
        parts, rule = self._rule(url)
        host = _host(parts)
        try:
            found = socket.getaddrinfo(host, rule.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise WebhookError(f"the host {host} was not found.") from error
        addresses = [ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in found]
        if not rule.is_exact and not all(map(is_public, addresses)):
            raise WebhookError(
                f"the host {host} means a private address: name it exactly with --webhook-host."
            )
        address = addresses[0]
        place = f"[{address}]" if address.version == 6 else str(address)
        whole = parts._replace(netloc=f"{place}:{rule.port}", fragment="").geturl()
        usual = rule.port == _PORTS[rule.scheme]
        name = f"[{host}]" if ":" in host else host
        return Target(whole, host, name if usual else f"{name}:{rule.port}")

    def _rule(self, url: str) -> tuple[SplitResult, AllowedHost]:
        try:
            if len(url) > _LONGEST or not url.isascii() or not url.isprintable() or " " in url:
                raise ValueError
            parts = urlsplit(url)
            host = _host(parts)
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError):
            raise RequestError("webhook: that is no address, write https://HOST/PATH.") from None
        if "@" in parts.netloc or "\\" in url:
            raise RequestError("webhook: an address with a name, password or \\ is not allowed.")
        rule = next((r for r in self._allowed if r.fits(parts.scheme, host, port)), None)
        if rule is None:
            raise RequestError(
                f"webhook: {parts.scheme}://{host[:64]}:{port} is none of the hosts that the "
                "server was started with (--webhook-host)."
            )
        return parts, rule


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is of the public internet, also when it wraps an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo is not None or (inner is not None and not is_public(inner)):
            return False
    return address.is_global and not address.is_multicast


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").lower().rstrip(".")
