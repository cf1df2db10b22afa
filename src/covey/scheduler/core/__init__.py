"""The scheduler's core: a pure state machine.  Read the rooms in this order.

``state`` what is known · ``spans`` cutting and finding · ``transitions`` the
only writer of a task's state · ``placement`` which worker, in which order ·
``pauses`` who waits before the next try ·
``report`` what clients are told · ``holding`` who holds what · ``checks`` what
makes no sense · ``submitting``, ``clients`` and ``workers`` what each side may
say · ``machine`` the door ·
``explain`` why a task waits · ``invariants`` what must always hold.
"""
