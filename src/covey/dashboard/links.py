"""Links to a dashboard, also where a browser reaches it through a proxy only.

In a notebook of a JupyterHub, or of an editor in a browser, ``127.0.0.1`` is the machine of
the kernel and not that of the browser.  The way is through the proxy that such a place has;
its address stands in environment variables of theirs.  The setting ``dashboard.link`` says it
where it cannot be found out::

    dashboard.link = "{JUPYTERHUB_SERVICE_PREFIX}proxy/{port}/status"

Names in braces are ``host``, ``port``, ``place`` (both), and environment variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from typing import Final
from urllib.parse import urlsplit

from covey import config
from covey.errors import UsageError

#: Where there is no proxy.
DIRECT: Final = "http://{place}/status"

#: What jupyter-server-proxy serves behind a JupyterHub.
_HUB_VARIABLE: Final = "JUPYTERHUB_SERVICE_PREFIX"
_HUB: Final = "{JUPYTERHUB_SERVICE_PREFIX}proxy/{port}/status"

#: An address in which an editor in a browser has left room for the port.
_EDITOR_VARIABLE: Final = "VSCODE_PROXY_URI"
_EDITOR_PORT: Final = "{{port}}"

#: Addresses under which a hub may be known to browsers.
_HUB_ADDRESSES: Final = (
    "JUPYTERHUB_PUBLIC_URL",
    "JUPYTERHUB_PUBLIC_HUB_URL",
    "JUPYTERHUB_HOST",
)


class Link(str):
    """A link as text; notebooks show it as something that can be clicked."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        shown = self.partition("?")[0]
        return f'<a href="{escape(self)}" target="_blank">{escape(shown)}</a>'


def address(place: str, environment: Mapping[str, str] | None = None) -> str:
    """Return where a browser of this user finds the dashboard at *place*.

    Args:
        place: ``HOST:PORT``, on the machine where it runs.
        environment: the variables of this process.

    Raises:
        UsageError: ``dashboard.link`` names something that there is not.
    """
    known = os.environ if environment is None else environment
    template = config.get().dashboard.link
    if not template:
        if known.get(_EDITOR_VARIABLE):
            room = known[_EDITOR_VARIABLE].rstrip("/")
            port = place.rpartition(":")[2]
            return room.replace(_EDITOR_PORT, port) + "/status"
        template = _HUB if known.get(_HUB_VARIABLE) else DIRECT
    host, _, port = place.rpartition(":")
    names = {**known, "host": host, "port": port, "place": place}
    try:
        return template.format_map(names)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise UsageError(
            f"the setting dashboard.link = {template!r} does not fit: {error!r}; it may "
            f"name {{host}}, {{port}}, {{place}} and environment variables that are set"
        ) from None


def names(environment: Mapping[str, str] | None = None) -> frozenset[str]:
    """Return the names of hosts under which proxies lead to the dashboard.

    Requests that come under another name are refused: a page of somebody else could have
    its name resolved to this machine, and read along.
    """
    known = os.environ if environment is None else environment
    found = set(config.get().dashboard.names.replace(",", " ").lower().split())
    for variable in (_EDITOR_VARIABLE, *_HUB_ADDRESSES):
        try:
            name = urlsplit(known.get(variable, "")).hostname
        except ValueError:
            name = None  # It is no address, so it names nobody.
        if name:
            found.add(name)
    return frozenset(found)
