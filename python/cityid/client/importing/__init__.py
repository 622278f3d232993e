"""Bringing a whole register in: `rows` reads, `run` registers, `journal` remembers, `rejects` names what is left."""

from cityid.client.importing.journal import Journal
from cityid.client.importing.numbers import with_aliases, with_serials
from cityid.client.importing.rejects import write_rejects
from cityid.client.importing.rows import Columns, Reject, Row, Table, check_against, read_table
from cityid.client.importing.run import Adoption, Submitter, Summary, Target, import_rows

__all__ = [
    "Adoption",
    "Columns",
    "Journal",
    "Reject",
    "Row",
    "Submitter",
    "Summary",
    "Table",
    "Target",
    "check_against",
    "import_rows",
    "read_table",
    "with_aliases",
    "with_serials",
    "write_rejects",
]
