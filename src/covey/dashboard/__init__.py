"""The dashboard: a process of its own that reads the event stream and serves a page.

It is a client like any other and may be stopped, stuck or killed: the cluster does not
notice.  ``model`` keeps what is shown, bounded; ``site`` serves it; ``launch`` starts the
process.  The page itself is in ``web/`` (TypeScript), and built into ``static/``.
"""
