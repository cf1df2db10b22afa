"""Between a value and its bytes.

``values`` turns any value into a payload and back, ``functions`` does it for
what is to be called, ``failures`` for what was raised, ``refs`` makes futures
inside arguments into dependencies, and ``registry`` holds the serializers that
a user brings along.  Only clients and runners come here: to everybody else a
payload is opaque.

The standard library is all that is needed; cloudpickle is imported at the first
value that cannot be pickled by reference.  Runners start fast because of it.
"""

from covey.serde.registry import register, unregister

__all__ = ["register", "unregister"]
