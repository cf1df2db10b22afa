"""What a task raised, as those who wait for it shall see it."""

from __future__ import annotations

from covey.errors import TaskCancelled, TaskError


def as_failure(error: BaseException) -> BaseException:
    """Return *error*, or what stands for it if it would end its reader too."""
    if isinstance(error, SystemExit):
        stand_in: BaseException = TaskError(
            f"the task called sys.exit({error.code!r}). That ends the task and "
            "neither its runner nor its worker; return a value or raise an exception."
        )
    elif isinstance(error, KeyboardInterrupt):
        stand_in = TaskError("the task raised KeyboardInterrupt")
    elif isinstance(error, GeneratorExit):
        stand_in = TaskError("the task raised GeneratorExit")
    elif type(error).__name__ == "CancelledError" and not isinstance(error, Exception):
        stand_in = TaskCancelled("the task cancelled itself: asyncio.CancelledError")
    else:
        if type(error) is ValueError and error.args and _is_of_read_only(error.args[0]):
            from covey.runner.readonly import advise  # Seldom needed.

            advise(error)
        return error
    stand_in.__cause__ = error
    stand_in.__traceback__ = error.__traceback__
    return stand_in


def _is_of_read_only(message: object) -> bool:
    """Whether that is what NumPy says, and what is built on it, of a read-only array."""
    return isinstance(message, str) and message.endswith("is read-only")
