"""The command line: what is listed by itself, how it is shown, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from covey.cli import group, main
from covey.cli.output import Listing, show


@click.group(cls=Listing)
def things():
    """Things."""


@things.command("ls")
@click.argument("address", required=False)
@click.option("--long", is_flag=True)
def list_things(address, long):
    click.echo(f"ls {address} {long}")


@things.command()
def drop():
    click.echo("drop")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "ls None False"),
        (["--long"], "ls None True"),
        (["127.0.0.1:8786"], "ls 127.0.0.1:8786 False"),
        (["ls", "there"], "ls there False"),
        (["drop"], "drop"),
    ],
)
def test_a_group_without_a_command_lists(arguments, says):
    assert CliRunner().invoke(things, arguments).output.strip() == says
    assert "drop" in CliRunner().invoke(things, ["--help"]).output


@pytest.mark.parametrize(
    ("typed", "suggested"), [("--bogus", None), ("--jounal", "--journal")]
)
def test_only_an_option_that_is_nearly_the_same_is_suggested(
    typed, suggested, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["covey", "scheduler", typed])
    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err
    assert f"No such option '{typed}'" in said or f"No such option: {typed}" in said
    assert ("Did you mean" in said) == (suggested is not None)
    assert suggested is None or suggested in said


def test_rows_are_shown_for_people_and_for_programs(capsys):
    rows = [{"name": "a", "n": 1, "more": [1]}, {"name": "long", "n": 22}]
    show(rows, "table", ["name", "n"])
    assert capsys.readouterr().out == "name  n\na     1\nlong  22\n"
    show(rows, "json", [])
    assert json.loads(capsys.readouterr().out) == rows
    show(rows, "jsonl", [])
    assert list(map(json.loads, capsys.readouterr().out.splitlines())) == rows


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell):
    answer = CliRunner().invoke(group, ["completion", shell])
    assert answer.exit_code == 0 and "_COVEY_COMPLETE" in answer.output


def commands(command, path=()):
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        yield path, command


@pytest.mark.parametrize(
    ("path", "command"),
    [pytest.param(*found, id=" ".join(found[0])) for found in commands(group)],
)
def test_every_command_says_what_it_does_and_how(path, command):
    assert f"covey {path[0]}" in command.help, "no example"
    text = CliRunner().invoke(group, [*path, "--help"]).output
    assert max(map(len, text.splitlines())) <= 80


def test_who_stops_reading_sees_no_traceback():
    program = """if True:
        import click, covey.cli
        @covey.cli.group.command()
        def flood():
            while True:
                click.echo("x" * 100)
        covey.cli.main()
    """
    with subprocess.Popen(
        [sys.executable, "-c", program, "flood"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
