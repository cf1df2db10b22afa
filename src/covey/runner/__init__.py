"""The process that runs user code.

A worker's agent starts it by exec, never by fork, and hands it open sockets: one
for each slot and one for control.  There is no event loop.  Each slot is a
thread in a plain blocking loop::

      agent ◄── control socket ──► control thread     retract, cancel, dump
            ◄── slot socket 0  ──► main thread    ┐
            ◄── slot socket 1  ──► thread 1       ├─ fn(*args), batch by batch
            ──► marks (memory) ◄── every slot     ┘

``frames`` reads and writes the sockets, ``batch`` is one run of tasks and what
remains of it, ``nodes`` are single ones that came together, ``slot`` is a socket and
what arrived on it, ``loop`` serves it, ``settling`` keeps it undisturbed meanwhile,
``serving`` is its door,
``interrupt`` cancels what runs, ``process`` holds what the slots share,
``control`` serves the control socket, ``context`` tells a task where it is.

Only the standard library is imported, and cloudpickle where it is needed: a
runner has to start fast, in any environment that a user brings.
"""
