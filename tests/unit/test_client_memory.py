"""How the memory of a cluster is shown."""

from __future__ import annotations

from covey.client.memory import memory_table


def worker(name, links):
    accounts = dict.fromkeys(
        ("total", "limit", "heap", "unmanaged", "shared", "in_flight", "warm"), 1 << 20
    )
    memory = {**accounts, "mapped": 2 << 20, "spilled": 0}
    return {"name": name, "facts": {"memory": memory, "moved": {"links": links}}}


def test_a_line_for_each_worker_and_one_for_each_busy_link():
    busy = {f"to {number}": number << 20 for number in range(9)}
    workers = [worker("a", busy), worker("b", {"from c": 1 << 30})]
    table = memory_table({"workers": workers})
    title, a, b, head, *links, more = str(table).splitlines()
    assert title.split()[:4] == ["worker", "total", "limit", "heap"]
    assert {"unmanaged", "mapped"} <= set(title.split())
    assert a.split()[0] == "a"
    assert "2 MiB" in b
    assert head.startswith("links")
    assert links[0].split()[0] == "b" and links[0].endswith("from c")
    assert links[1].endswith("to 8")
    assert len(links) == 8
    assert more == "and 2 more links"


def test_without_links_there_is_nothing_to_say_of_them():
    table = memory_table({"workers": [worker("a", {}), {"name": "b", "facts": {}}]})
    assert len(str(table).splitlines()) == 2
