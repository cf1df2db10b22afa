"""Memory limits of containers, in both spellings that Linux has."""

from __future__ import annotations

import pytest

from covey.worker.cgroup import Container


@pytest.fixture
def tree(tmp_path):
    """Write files of control groups; return where they are."""

    def write(membership, files):
        for name, text in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "root").mkdir(exist_ok=True)
        (tmp_path / "self").write_text(membership)
        return tmp_path / "root", tmp_path / "self"

    return write


def test_no_groups_no_limit(tmp_path):
    nowhere = Container(tmp_path / "root", tmp_path / "self", tmp_path / "vmstat")
    assert nowhere.limit_bytes() is None
    assert nowhere.room_bytes() is None
    assert nowhere.oom_kills() is None


def test_the_second_version(tree):
    places = tree(
        "0::/jobs/mine\n",
        {
            "memory.max": "max\n",
            "jobs/memory.max": "2000\n",
            "jobs/memory.current": "1500\n",
            "jobs/memory.stat": "anon 900\ninactive_file 300\nactive_file 200\n",
            "jobs/mine/memory.max": "3000\n",
            "jobs/mine/memory.current": "1400\n",
            "jobs/mine/memory.stat": "anon 1400\ninactive_file 0\nactive_file 0\n",
            "jobs/mine/memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 4\n",
        },
    )
    assert Container(*places).limit_bytes() == 2000
    # 1,000 of the group above, less cached files; 1,600 of our own.
    assert Container(*places).room_bytes() == 1000
    assert Container(*places).oom_kills() == 4


def test_the_first_version(tree):
    places = tree(
        "4:memory:/mine\n2:cpu,cpuacct:/mine\n0::/\n",
        {
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/mine/memory.limit_in_bytes": "5000\n",
            "memory/mine/memory.usage_in_bytes": "3000\n",
            "memory/mine/memory.stat": (
                "inactive_file 1\nactive_file 1\n"
                "total_inactive_file 400\ntotal_active_file 600\n"
            ),
            "memory/mine/memory.oom_control": (
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
            ),
        },
    )
    assert Container(*places).limit_bytes() == 5000
    assert Container(*places).room_bytes() == 3000
    assert Container(*places).oom_kills() == 2


def test_a_path_that_leads_nowhere_inside_a_container(tree):
    places = tree("0::/docker/4711\n", {"memory.max": "700\n"})
    assert Container(*places).limit_bytes() == 700


def test_who_counts_victims_of_the_kernel(tree, tmp_path):
    places = tree("0::/\n", {"memory.max": "700\n"})
    machine = tmp_path / "vmstat"
    assert Container(*places, machine).oom_kills() is None
    machine.write_text("pgfault 12\noom_kill 3\n")
    assert Container(*places, machine).oom_kills() == 3
    places = tree("0::/\n", {"memory.events": "oom 1\noom_kill 1\n"})
    assert Container(*places, machine).oom_kills() == 1


def test_a_limit_that_changes(tree, tmp_path):
    container = Container(*tree("0::/\n", {"memory.max": "max\n"}))
    assert container.limit_bytes() is None
    (tmp_path / "root/memory.max").write_text("700\n")
    (tmp_path / "root/memory.current").write_text("600\n")
    assert container.limit_bytes() == 700
    assert container.room_bytes() == 100
