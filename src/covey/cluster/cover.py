"""What covers the traffic of a listener: nothing to do on this machine, TLS beyond it."""

from __future__ import annotations

from typing import Final

from covey.errors import UsageError
from covey.net import tls
from covey.net.addresses import Address
from covey.net.tls import IN_CLEAR, Certificate
from covey.secret import Secret

NOT_ON_A_NETWORK: Final = """\
covey does not listen on {host} in clear: whoever can read the traffic could take the
cluster over, and TLS needs a package that is not installed here. Ways out:
  1. Let covey encrypt, which is all there is to do: pip install 'covey[tls]'
  2. Stay on 127.0.0.1 (the default) and let other machines in through ssh:
     ssh -R {port}:127.0.0.1:{port} OTHER-MACHINE
  3. On a network that you trust like your own machine, say so: covey scheduler --host {host} --insecure
     The secret is still asked for, but everybody there can read along."""


def cover(
    address: Address, *, in_clear: bool = False, secret: Secret | None = None
) -> Certificate | None:
    """Return the certificate for a listener at *address*.

    Args:
        address: where it is going to listen.
        secret: what the certificate is made from; without one it is new each time.
        in_clear: somebody has said that nothing need be encrypted there.

    Returns:
        ``None`` where only this machine can call.

    Raises:
        UsageError: no certificate can be made, and nobody has said that this is fine.
    """
    if address.is_local:
        return None
    if in_clear:
        return IN_CLEAR
    if not tls.can_make():
        raise UsageError(
            NOT_ON_A_NETWORK.format(
                host=address.host or "all interfaces", port=address.port
            )
        )
    return tls.make_certificate(secret)
