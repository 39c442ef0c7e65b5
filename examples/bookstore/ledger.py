"""The warehouse's ledger: every order, in a MySQL or MariaDB database.

What comes in: orders, by who sent them. What goes out: rows of the table ``orders``, and how many
there are of each sender.

Invariants: an order that is told to be written is in the database; a connection that broke is
opened anew once per call, and a call ends within its time limits; the table is made where it is
missing.
Not done here: deciding what an order without a ledger means (``bookwarehouse``).
"""

import threading

import pymysql
from fsm_bookstore.settings import Database

TIMEOUT_S = 5
"""Seconds to connect, and to wait for an answer."""

_TABLE = (
    "CREATE TABLE IF NOT EXISTS orders ("
    "id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY,"
    " customer VARCHAR(63) NOT NULL,"
    " ordered_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,"
    " INDEX (customer))"
)


class LedgerError(Exception):
    """The database cannot be used now; the message says why."""


class Ledger:
    """Orders in a database; used by several threads, one at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._wire: pymysql.Connection[pymysql.cursors.Cursor] | None = None

    def write(self, customer: str) -> None:
        """Write an order.

        Raises:
            LedgerError: it is not written, or nobody knows whether it is.
        """
        self._run("INSERT INTO orders (customer) VALUES (%s)", (customer,))

    def totals(self) -> dict[str, int]:
        """Return how many orders there are, by sender.

        Raises:
            LedgerError: the database does not tell.
        """
        rows = self._run("SELECT customer, COUNT(*) FROM orders GROUP BY customer", ())
        return {str(customer): int(str(count)) for customer, count in rows}

    def _run(self, sql: str, values: tuple[str, ...]) -> list[tuple[object, ...]]:
        with self._lock:
            fresh = self._wire is None
            try:
                return self._attempt(sql, values)
            except pymysql.err.MySQLError as error:
                self._close()
                # A kept connection may have been closed since the last order.
                lost = isinstance(error, pymysql.err.OperationalError | pymysql.err.InterfaceError)
                if fresh or not lost:
                    raise self._told(error) from error
            try:
                return self._attempt(sql, values)
            except pymysql.err.MySQLError as error:
                self._close()
                raise self._told(error) from error

    def _attempt(self, sql: str, values: tuple[str, ...]) -> list[tuple[object, ...]]:
        if self._wire is None:
            self._wire = self._opened()
        with self._wire.cursor() as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall())

    def _opened(self) -> "pymysql.Connection[pymysql.cursors.Cursor]":
        to = self._database
        wire = pymysql.connect(
            host=to.host,
            port=to.port,
            user=to.user,
            password=to.password,
            autocommit=True,
            connect_timeout=TIMEOUT_S,
            read_timeout=TIMEOUT_S,
            write_timeout=TIMEOUT_S,
        )
        try:
            with wire.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{to.name}`")
                cursor.execute(f"USE `{to.name}`")
                cursor.execute(_TABLE)
        except pymysql.err.MySQLError:
            wire.close()
            raise
        return wire

    def _close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None and wire.open:
            wire.close()

    def _told(self, error: Exception) -> LedgerError:
        where = f"{self._database.host}:{self._database.port}"
        return LedgerError(f"database {where}: {error.args[-1] if error.args else error}")
