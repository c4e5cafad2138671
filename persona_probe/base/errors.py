"""The errors a user can act on, each with the exit code of its kind."""

OK, USAGE, BAD_INPUT, OUT_OF_MEMORY, FAILED_CELLS, INTERRUPTED = 0, 2, 3, 4, 5, 130


class PersonaProbeError(Exception):
    """A message that says what was asked, what was found and what to try. Ends a command without a
    traceback."""

    exit_code = BAD_INPUT


class UsageError(PersonaProbeError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = USAGE


class BadInput(PersonaProbeError, ValueError):
    """A file, a model or a data set is missing, damaged, or does not fit the others."""


class NotFinite(BadInput):
    """An edited model gave NaN or infinity. The arm has no numbers; the others go on."""


class OutOfMemory(PersonaProbeError):
    """A single row does not fit, after the batch was halved down to one."""

    exit_code = OUT_OF_MEMORY
