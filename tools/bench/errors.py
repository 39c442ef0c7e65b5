"""What can go wrong in a bench run, by what follows from it.

``BenchError`` ends the run. ``MissingError`` and ``RowError`` end one peer's part of it: the table
says so in words and the others go on.
"""


class BenchError(Exception):
    """The run cannot go on; the message says why and, where known, what to do."""


class MissingError(BenchError):
    """A peer, or a part of one, is not installed here."""


class UnsupportedError(BenchError):
    """A peer cannot do the work of a row by its nature; there is nothing to install."""


class RowError(BenchError):
    """A peer was there but did not do the work of a row."""
