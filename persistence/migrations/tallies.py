"""How migrations keep tallies: by triggers, for each database one text. ``listing.py`` reads them.

A tally that was made stays as it was made: what is here must go on making the same.
"""

from alembic import op

NEVER = "'0001-01-01'"

Parts = tuple[str, str, str, str]
"""The number, word and day of a row, and which rows count, in SQL; the row is called ``{row}``."""


def keep(tally: str, table: str, parts: Parts) -> None:
    """Count the rows of a table from now on, those that are there included."""
    write = _on_sqlite if op.get_bind().dialect.name == "sqlite" else _on_postgresql
    # From the trigger on nobody else writes the table until the migration is done.
    write(tally, table, parts)
    number, word, day, which = _parts(parts, "each_row")
    op.execute(
        "INSERT INTO tallies (tally, number, word, day, change, folded)"
        f" SELECT '{tally}', {number}, {word}, {day}, count(*), true"
        f" FROM {table} AS each_row WHERE {which} GROUP BY 2, 3, 4"
    )


def drop(tally: str, table: str) -> None:
    """Count no more."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    for event in ("insert", "delete", "update"):
        op.execute(f"DROP TRIGGER IF EXISTS tally_{tally}_{event}" + ("" if sqlite else f" ON {table}"))
    if not sqlite:
        op.execute(f"DROP FUNCTION tally_{tally}()")
    op.execute(f"DELETE FROM tallies WHERE tally = '{tally}'")


def _parts(parts: Parts, row: str) -> Parts:
    """What a tally has of a row, in SQL: its number, word and day, and whether it counts at all."""
    number, word, day, which = (part.format(row=row) for part in parts)
    if op.get_bind().dialect.name != "sqlite":
        day = day.replace(NEVER, f"DATE {NEVER}")
    return number, word, day, which or "1 = 1"


def _changes(parts: Parts) -> bool:
    """Whether an update can move a row from one tally to another."""
    return any("{row}" in part for part in parts)


def _on_sqlite(tally: str, table: str, parts: Parts) -> None:
    """There is one writer, so it counts on in place."""

    def place(row: str) -> str:
        number, word, day, which = _parts(parts, row)
        return f"tally = '{tally}' AND number = {number} AND word = {word} AND day = {day} AND {which}"

    def one_more(row: str) -> str:
        number, word, day, which = _parts(parts, row)
        return (
            "INSERT INTO tallies (tally, number, word, day, change, folded)"
            f" SELECT '{tally}', {number}, {word}, {day}, 0, 1"
            f" WHERE {which} AND NOT EXISTS (SELECT 1 FROM tallies WHERE {place(row)});"
            f" UPDATE tallies SET change = change + 1 WHERE {place(row)};"
        )

    def one_less(row: str) -> str:
        return f" UPDATE tallies SET change = change - 1 WHERE {place(row)};"

    on = f"ON {table} FOR EACH ROW"
    op.execute(f"CREATE TRIGGER tally_{tally}_insert AFTER INSERT {on} BEGIN {one_more('NEW')} END")
    op.execute(f"CREATE TRIGGER tally_{tally}_delete AFTER DELETE {on} BEGIN {one_less('OLD')} END")
    if _changes(parts):
        old, new = (", ".join(_parts(parts, row)) for row in ("OLD", "NEW"))
        op.execute(
            f"CREATE TRIGGER tally_{tally}_update AFTER UPDATE {on} WHEN ({old}) IS NOT ({new})"
            f" BEGIN {one_less('OLD')} {one_more('NEW')} END"
        )


def _on_postgresql(tally: str, table: str, parts: Parts) -> None:
    """Writers wait for nobody: each statement adds rows, of all that it changed at once."""
    number, word, day, which = _parts(parts, "each_row")

    def rows(source: str, change: int) -> str:
        return (
            f"SELECT {number} AS number, {word} AS word, {day} AS day, {change} AS change"
            f" FROM {source} AS each_row WHERE {which}"
        )

    def add(source: str) -> str:
        return (
            "INSERT INTO tallies (tally, number, word, day, change, folded)"
            f" SELECT '{tally}', number, word, day, sum(change), false FROM ({source}) AS changed"
            " GROUP BY number, word, day HAVING sum(change) <> 0;"
        )

    both = f"{rows('old_rows', -1)} UNION ALL {rows('new_rows', 1)}"
    op.execute(
        f"CREATE FUNCTION tally_{tally}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF TG_OP = 'INSERT' THEN {add(rows('new_rows', 1))}"
        f" ELSIF TG_OP = 'DELETE' THEN {add(rows('old_rows', -1))}"
        f" ELSE {add(both)} END IF; RETURN NULL; END $$"
    )
    new, old = "NEW TABLE AS new_rows", "OLD TABLE AS old_rows"
    events = {"insert": new, "delete": old} | ({"update": f"{old} {new}"} if _changes(parts) else {})
    for event, given in events.items():
        op.execute(
            f"CREATE TRIGGER tally_{tally}_{event} AFTER {event.upper()} ON {table} REFERENCING {given}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION tally_{tally}()"
        )
