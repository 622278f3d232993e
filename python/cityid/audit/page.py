"""The page of an audit: one HTML file to print, without scripts or anything from outside.

It says what was asked, what is proven and what is not, and how to check it; a long table is cut and names its CSV file.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from itertools import islice
from typing import Final

from cityid.audit.proof import Audit
from cityid.audit.tables import (
    CODES,
    HISTORY,
    RANGES,
    TRANSACTIONS,
    VOTES,
    code_rows,
    history_rows,
    local,
    range_rows,
    transaction_rows,
    vote_rows,
)

__all__ = ["page"]

MOST_ROWS: Final = 500
STYLE: Final = """
body { font: 11pt/1.45 serif; color: #111; max-width: 60em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.6em } h2 { font-size: 1.25em; margin-top: 2em; border-bottom: 1px solid #888 }
table { border-collapse: collapse; width: 100%; font-size: 9pt }
caption { text-align: left; font-style: italic; padding: .3em 0 }
th, td { border: 1px solid #999; padding: .2em .4em; text-align: left; vertical-align: top; overflow-wrap: anywhere }
th { background: #eee } code { font-family: monospace; font-size: .92em; overflow-wrap: anywhere }
dt { font-weight: bold } .test { border: 2px solid #111; padding: .4em .8em; font-weight: bold }
@media print { body { margin: 0; max-width: none; font-size: 9.5pt }
  h2 { break-after: avoid } tr { break-inside: avoid }
  thead { display: table-header-group } a { color: inherit; text-decoration: none } }
@page { margin: 18mm 15mm }
"""
SECTIONS: Final = (
    ("asked", "What was asked"),
    ("figures", "Figures"),
    ("proven", "What is proven, and what is not"),
    ("check", "How to check it"),
    ("codes", "Codes"),
    ("ranges", "Ranges"),
    ("history", "What changed"),
    ("transactions", "Transactions"),
    ("votes", "Blocks and votes"),
)


def page(audit: Audit) -> str:
    """The whole page."""
    title = f"Audit of {audit.manifest.prefix}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *_head(audit),
        "<nav><h2>Contents</h2><ol>",
        *(f'<li><a href="#{name}">{title}</a></li>' for name, title in SECTIONS),
        "</ol></nav>",
        *_asked(audit),
        *_figures(audit),
        *_proven(audit),
        *_check(audit),
        *_table(4, "codes.csv", CODES, code_rows(audit)),
        *_table(5, "ranges.csv", RANGES, range_rows(audit)),
        *_table(6, "history.csv", HISTORY, history_rows(audit)),
        *_table(7, "transactions.csv", TRANSACTIONS, transaction_rows(audit)),
        *_table(8, "votes.csv", VOTES, vote_rows(audit)),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _head(audit: Audit) -> Iterator[str]:
    if audit.manifest.test:
        yield '<p class="test">TEST network: its codes are not registered with the agency.</p>'


def _section(place: int) -> str:
    name, title = SECTIONS[place]
    return f'<h2 id="{name}">{place + 1}. {title}</h2>'


def _terms(rows: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows) + "</dl>"


def _asked(audit: Audit) -> Iterator[str]:
    manifest = audit.manifest
    first, last = (local(audit, audit.time_of(height)) for height in (manifest.first, manifest.last))
    rows = [
        ("Network", f"{manifest.network}, genesis {manifest.genesis}"),
        ("Prefix", manifest.prefix),
        ("From", f"{first} (height {manifest.first})"),
        ("To", f"{last} (height {manifest.last})"),
        ("Proven by the header of", f"{local(audit, audit.head_time_ms)} (height {audit.head_height})"),
        ("Made", f"{local(audit, manifest.made_ms)}, by {manifest.software}, from {manifest.gateway}"),
    ]
    if (since := audit.since) is not None:
        span = f"{since.prefix}, heights {since.first} to {since.last}"
        rows.append(("Goes on from", f"the visit to {span}; SHA-256 of its SHA256SUMS: {manifest.since}"))
    yield _section(0)
    yield _terms(rows)


def _figures(audit: Audit) -> Iterator[str]:
    kinds = Counter(row[1] for row in code_rows(audit))
    statuses = Counter(row[2] for row in code_rows(audit))
    outcomes = Counter(one["receipt"]["status"] for one in audit.transactions)
    sealed = [row for row in range_rows(audit) if row[8]]
    items = sum(int(row[9]) for row in sealed)
    count = sum(1 for _ in range_rows(audit))
    votes = sum(block["signatures"] for block in audit.blocks)
    rows = [
        ("Codes", _counts(kinds) or "none"),
        ("By status", _counts(statuses) or "none"),
        ("Ranges", f"{count}, of them sealed {len(sealed)} with {items} items"),
        ("Versions made in the span", str(sum(1 for _ in history_rows(audit)))),
        ("Transactions that concern the prefix", _counts(outcomes) or "none"),
        ("Blocks in the span", f"{len(audit.blocks)}, with {votes} votes"),
        ("All transactions of these blocks", str(sum(block["transactions"] for block in audit.blocks))),
    ]
    yield _section(1)
    yield _terms(rows)


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items()))


def _proven(audit: Audit) -> Iterator[str]:
    manifest = audit.manifest
    yield _section(2)
    yield "<p>Proven, with nothing but a trust file of this network:</p><ul>"
    yield (
        "<li>Every record is the one that the state of a certified header holds, and every older version is the "
        "one whose hash the next names.</li>"
    )
    yield (
        f"<li>The blocks of heights {manifest.first} to {manifest.last} are complete: each is the child of the "
        "one before, carries the votes of "
        "its own validators, and has all batches, transactions and receipts that its header commits to. Their "
        "log is the beginning of the "
        "log of the header that proves the records.</li>"
    )
    yield (
        "<li>No transaction of these blocks that concerns the prefix is left out, and for each change that one "
        "made the version is shown. So "
        "every code under the prefix that was registered or changed in the span is in the tables.</li>"
    )
    if manifest.since is not None:
        yield (
            "<li>Since the visit before, nothing was removed or replaced: the log continues the one that it saw, "
            "and each record that it saw is "
            "there, as it was or as an earlier version. Compare its SHA256SUMS with the copy that you kept.</li>"
        )
    yield "</ul><p>Not proven:</p><ul>"
    if manifest.first > 1:
        yield (
            "<li>That the table of codes has every code that was registered before the span and not touched in "
            "it. A state that is found by "
            "hashes cannot show that. Visits that follow one another without a gap from height 1 do show it, and "
            "so does an audit from height 1.</li>"
        )
    yield (
        "<li>The items of sealed ranges, but for those that were overridden: they are in the table files whose "
        "digests and counts the ranges "
        "name.</li>"
        "<li>Effective status: the status shown is that of the record itself. A code whose city, organisation or "
        "range is suspended is "
        "suspended with it.</li>"
        "<li>Anything about the things that carry codes: a copied label has a valid code.</li></ul>"
    )


def _check(audit: Audit) -> Iterator[str]:
    yield _section(3)
    yield (
        "<p>With a trust file or genesis file that you got on a way you trust (compare its six words with a "
        "member city), without a network:</p>"
        "<p><code>cityid verify FOLDER --trust FILE</code></p>"
    )
    if audit.manifest.since is not None:
        yield (
            "<p>And with the folder of the visit before: <code>cityid verify FOLDER --trust FILE --since "
            "FOLDER-BEFORE</code></p>"
        )
    yield (
        "<p>The command makes the tables and this page again from the proofs and compares them byte by byte. "
        "This page is one of the files: "
        "its words are worth what that check is worth. Formats: lines P74, P77 and P78 of the protocol.</p><ol>"
    )
    for step in audit.steps:
        if step.name not in ("files", "visit", "tables"):
            yield f"<li>{escape(step.name)}: {escape(step.detail)}</li>"
    yield "</ol>"


def _table(place: int, name: str, head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield _section(place)
    shown = list(islice(rows, MOST_ROWS))
    rest = sum(1 for _ in rows)
    count = (
        f"{len(shown)} rows" if not rest else f"the first {len(shown)} of {len(shown) + rest} rows; all of them: {name}"
    )
    yield f"<table><caption>{name}: {count}</caption><thead><tr>"
    yield "".join(f"<th>{escape(column)}</th>" for column in head)
    yield "</tr></thead><tbody>"
    for row in shown:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</tbody></table>"
