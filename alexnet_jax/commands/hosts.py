"""Which hosts a request may name, and which sites it may come from: see `--mode=demo`."""

import ipaddress
import urllib.parse
from collections.abc import Mapping


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def names_this_machine(host: str) -> bool:
    """Whether a request's Host, as in '127.0.0.1:8012' or '[::1]:8012', is an address of this machine alone.

    No other site's name can be pointed at the page then.
    """
    try:
        return is_loopback(urllib.parse.urlsplit(f'//{host}').hostname or '')
    except ValueError:
        return False


def comes_from_elsewhere(headers: Mapping[str, str], host: str) -> bool:
    """Whether a browser says that another site's page has sent a request, by the headers that browsers set."""
    if 'Sec-Fetch-Site' in headers:  # the origin is 'null' where, as by our page, no referrer is sent
        return headers['Sec-Fetch-Site'] in ('cross-site', 'same-site')
    origin = headers.get('Origin', 'null')
    return origin != 'null' and urllib.parse.urlsplit(origin).netloc != host
