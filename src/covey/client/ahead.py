"""What a client needs before its first call, made while it waits for something else."""

from __future__ import annotations


def prepare() -> None:
    """Import and look up what takes long; all of it is kept by those who need it."""
    import cloudpickle  # noqa: F401

    try:
        import uvloop  # noqa: F401
    except ImportError:
        pass  # ``net.loop`` does without it, too.
    import concurrent.futures.thread  # noqa: F401

    import covey.client.opening  # noqa: F401
    from covey import plugins
    from covey.client.modules import installed_folders

    plugins.serializers()
    installed_folders()
