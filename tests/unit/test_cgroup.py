"""Memory limits of containers, in both spellings that Linux has."""

from __future__ import annotations

import pytest

from covey.worker import cgroup


@pytest.fixture
def tree(tmp_path):
    """Write files of control groups; return what the functions are given."""

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
    nowhere = (tmp_path / "root", tmp_path / "self")
    assert cgroup.limit_bytes(*nowhere) is None
    assert cgroup.room_bytes(*nowhere) is None
    assert cgroup.oom_kills(*nowhere, tmp_path / "vmstat") is None


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
    assert cgroup.limit_bytes(*places) == 2000
    # 1,000 of the group above, less cached files; 1,600 of our own.
    assert cgroup.room_bytes(*places) == 1000
    assert cgroup.oom_kills(*places) == 4


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
    assert cgroup.limit_bytes(*places) == 5000
    assert cgroup.room_bytes(*places) == 3000
    assert cgroup.oom_kills(*places) == 2


def test_a_path_that_leads_nowhere_inside_a_container(tree):
    places = tree("0::/docker/4711\n", {"memory.max": "700\n"})
    assert cgroup.limit_bytes(*places) == 700


def test_who_counts_victims_of_the_kernel(tree, tmp_path):
    places = tree("0::/\n", {"memory.max": "700\n"})
    machine = tmp_path / "vmstat"
    assert cgroup.oom_kills(*places, machine) is None
    machine.write_text("pgfault 12\noom_kill 3\n")
    assert cgroup.oom_kills(*places, machine) == 3
    places = tree("0::/\n", {"memory.events": "oom 1\noom_kill 1\n"})
    assert cgroup.oom_kills(*places, machine) == 1
