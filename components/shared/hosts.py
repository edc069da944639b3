"""To whom a token, or another secret, may be sent."""

import ipaddress
from urllib.parse import urlsplit

from components.shared.errors import UserError


def check_private(url: str, secret: str = "a token") -> None:
    """Checks that what is sent to the address can be read by nobody else: it is this machine's, or uses TLS.

    Args:
        url: the address.
        secret: how the message names what is sent there.

    Raises:
        UserError: it can be read.
    """
    address = urlsplit(url if "//" in url else f"//{url}")
    host = address.hostname or ""
    # kfp's own address inside a cluster has no scheme, and its token is for Kubeflow Pipelines alone.
    is_inside = not address.scheme and host.endswith(".svc.cluster.local")
    if address.scheme != "https" and not is_inside and not _is_here(host):
        raise UserError(
            f"{address.scheme or 'http'}://{address.netloc.rpartition('@')[2]}: {secret} would be sent unencrypted; "
            "give an address that begins with https."
        )


def _is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
