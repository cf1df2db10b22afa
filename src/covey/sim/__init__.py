"""The whole of covey on virtual time: one thread, one seed, no sockets, no clocks.

The cores are the real ones, and so is every byte between them.  What is played
is the world around them: the network, the processes that run tasks, the users
and whatever goes wrong.  Read the rooms in this order.

``timeline`` virtual time, and the trace that must be the same every time ·
``network`` bytes that come late, in pieces or not at all · ``tasks`` what
simulated tasks compute · ``runners`` the processes that run them · ``worker``,
``scheduler`` and ``client`` the real cores in played shells · ``oracle`` what
every task must come to · ``plan`` what a seed stands for: a cluster, wishes and
faults · ``users`` and ``faults`` who carries that out · ``world`` one run of it ·
``campaign`` many seeds · ``shrink`` the fewest faults that still do it ·
``mutants`` what a campaign must notice · ``fair_weather`` workers that nothing happens
to, and of which a thousand cost little · ``trial`` how long a graph would take
on a cluster that you do not have.
"""
