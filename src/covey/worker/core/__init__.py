"""The worker's core: a pure state machine over runs and slots.

``state`` what is known · ``orders`` what it tells its shell · ``dispatch`` which
slot runs what · ``machine`` the door · ``invariants`` what must always hold.
"""
