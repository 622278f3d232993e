"""Schemas of item classes: what the attributes of an item must look like, as JSON Schema (draft 2020-12).

A category names its schema by the SHA-256 of the file, whose body is a blob that any gateway hands out; whoever reads
it checks the digest. A row is an object of attribute name → text; a schema says which names are required, which texts
are allowed, and whether others may stand beside them. Values are texts, also numbers: a schema constrains them with
`pattern`, `enum` or `maxLength`.

A schema is compiled once and then asked for each row. It may not refer to other documents: nothing is fetched.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema
import referencing
from jsonschema.exceptions import SchemaError
from referencing.exceptions import Unresolvable

from cityid.client.plans import Resolved
from cityid.errors import InputError

__all__ = ["SCHEMA_BYTES", "Schema", "parse_schema", "read_schema", "schema_digest"]

SCHEMA_BYTES: Final = 256 * 1024
SHOWN_LETTERS: Final = 160


class Schema:
    """A schema, compiled. `digest` is the SHA-256 of its file."""

    __slots__ = ("_validator", "digest", "document")

    def __init__(self, data: bytes, document: dict[str, Any]) -> None:
        self.digest = hashlib.sha256(data).digest()
        self.document = document
        self._validator = jsonschema.Draft202012Validator(document, registry=referencing.Registry())

    def fault(self, attributes: Mapping[str, str]) -> tuple[str, str] | None:
        """(attribute, what is wrong) of the first fault of a row, or None."""
        if self._validator.is_valid(attributes):  # the common case; naming the fault is several times slower
            return None
        error = min(self._validator.iter_errors(attributes), key=lambda error: [str(part) for part in error.path])
        return "/".join(str(part) for part in error.path), error.message[:SHOWN_LETTERS]


def schema_digest(found: Resolved) -> bytes | None:
    """The digest that a category's record names, from a verified answer; None when it names none.

    Raises InputError when the category is not registered.
    """
    if found.verdict.verdict != "REGISTERED":
        raise InputError(
            f"{found.code} is not registered here (verdict {found.verdict.verdict}). "
            "Next: cityid item category register."
        )
    digest = json.loads(found.verdict.record or "{}").get("schema")
    return None if digest is None else bytes.fromhex(digest)


def read_schema(path: Path) -> Schema:
    """Reads a schema file. Raises InputError when it is none."""
    with path.open("rb") as file:
        return parse_schema(file.read(SCHEMA_BYTES + 1))


def parse_schema(data: bytes) -> Schema:
    """Reads the bytes of a schema. Raises InputError that says what is wrong with it."""
    if len(data) > SCHEMA_BYTES:
        raise InputError(f"A schema of more than {SCHEMA_BYTES} bytes is not read. Next: make it shorter.")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"The schema is no JSON: {error}") from None
    if not isinstance(document, dict) or document.get("type") != "object":
        raise InputError('A schema of items is an object with "type": "object": a row is names and texts.')
    try:
        jsonschema.Draft202012Validator.check_schema(document)
        schema = Schema(data, document)
        schema.fault({})  # a reference that leads nowhere is found when it is followed
    except SchemaError as error:
        raise InputError(f"The schema breaks JSON Schema (draft 2020-12): {error.message[:SHOWN_LETTERS]}") from None
    except (Unresolvable, RecursionError) as error:
        raise InputError(f"The schema refers to something that is not in it: {error}. Next: put it in.") from None
    return schema
