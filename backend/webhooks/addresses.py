"""Where a webhook may lie. RULE: pure.

In: a URL as an operator wrote it, or an address that a connection is about to be made to. Out: what is wrong with it.
A URL is judged when it is registered and whenever it is called; a name is judged by the addresses that it leads to, at the socket.
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from urllib.parse import urlsplit

from backend.providers.directory import is_public

LONGEST_URL = 2000

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")  # a name, IPv4, or IPv6 without its brackets


class Reach(StrEnum):
    """How far calls may go."""

    PUBLIC = "public"  # the public internet, by https
    LOOPBACK = "loopback"  # this machine too, also by http
    ANY = "any"  # private networks too, also by http


def fault_of(url: str, reach: Reach) -> str | None:
    """Why this URL cannot be a webhook; None: it can."""
    if len(url) > LONGEST_URL or not _VISIBLE.fullmatch(url):
        return f"1 to {LONGEST_URL} visible ASCII characters are needed"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(host) or "\\" in url:
        return "https://host[:port]/path is needed"
    if parts.username is not None or parts.password is not None or "#" in url:
        return "user, password and fragment are not allowed"
    if not _host_may_be_called(host, reach):
        return "lies in a private network; MOA_WEBHOOK_ADDRESSES says what is allowed"
    if parts.scheme == "http" and not (reach is Reach.ANY or (reach is Reach.LOOPBACK and _is_loopback(host))):
        return "https is needed"
    return None


def may_connect(address: str, reach: Reach) -> bool:
    """Whether a connection to this IP address may be made."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(ip, "ipv4_mapped", None) or ip
    if inner.is_unspecified or inner.is_multicast:
        return False
    return reach is Reach.ANY or is_public(address) or (reach is Reach.LOOPBACK and inner.is_loopback)


def _host_may_be_called(host: str, reach: Reach) -> bool:
    """As it is written. What looks like a number must be a plain address: `2130706433` and `0177.1` are this machine, too."""
    if ":" in host or host.replace(".", "").isdigit():
        try:
            return may_connect(host, reach)
        except ValueError:
            return False
    return reach is not Reach.PUBLIC or not _is_loopback(host)


def _is_loopback(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
