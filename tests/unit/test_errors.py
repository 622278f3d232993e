"""The tree of exceptions: its shape, what each carries, and that the Rust side names only classes that exist."""

import copy
import inspect
import pickle
import re
from pathlib import Path

import pytest

from cityid import errors

ROOT = Path(__file__).parents[2]

PARENTS = {
    "InputError": "CityIDError",
    "MalformedInput": "InputError",
    "CodeError": "InputError",
    "RuleViolation": "InputError",
    "VerificationError": "CityIDError",
    "SignatureInvalid": "VerificationError",
    "ProofInvalid": "VerificationError",
    "CertificateInvalid": "VerificationError",
    "Unavailable": "CityIDError",
    "Overloaded": "Unavailable",
    "NotSynced": "Unavailable",
    "Pruned": "Unavailable",
    "PeerUnreachable": "Unavailable",
    "StorageError": "CityIDError",
    "DamagedStore": "StorageError",
}


def test_tree_is_the_documented_one() -> None:
    defined = {
        name: value.__bases__[0].__name__
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.CityIDError) and value is not errors.CityIDError
    }
    assert defined == PARENTS
    assert sorted(errors.__all__) == sorted([*PARENTS, "CityIDError"])


def test_drawing_names_every_class_under_its_parent() -> None:
    """The docstring draws the tree; read it back and compare, so that the drawing cannot fall behind."""
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr]
        found = re.match(r"^    ([│├└─ ]*)([A-Z][A-Za-z]+)", line)
        if found:
            depth = len(found[1]) // 4
            path = [*path[:depth], found[2]]
            if depth:
                drawn[found[2]] = path[depth - 1]
    assert drawn == PARENTS


def test_bad_input_is_a_value_error_and_nothing_else_is() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, ValueError) == issubclass(kind, errors.InputError), name


def test_rule_violation_carries_its_reason() -> None:
    error = errors.RuleViolation("stale_version", "the record is at version 3; read it again and repeat the change")
    assert error.reason == "stale_version"
    assert str(error) == "stale_version: the record is at version 3; read it again and repeat the change"


def test_signature_invalid_carries_positions() -> None:
    error = errors.SignatureInvalid([0, 7], "2 signatures do not verify")
    assert error.positions == (0, 7)
    assert str(error) == "2 signatures do not verify"


@pytest.mark.parametrize(
    "error",
    [
        errors.CodeError("the check character is B, not C"),
        errors.RuleViolation("over_quota", "ask the city for a larger quota"),
        errors.SignatureInvalid([4], "1 signature does not verify"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_copies_and_process_borders(error: errors.CityIDError) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_rust_imports_only_exceptions_that_exist() -> None:
    """`import_exception!` is resolved when first raised; a wrong name would be a panic then, and is found here."""
    source = (ROOT / "rust" / "python" / "src" / "error.rs").read_text(encoding="utf-8")
    imported = re.findall(r"import_exception!\(cityid\.errors, (\w+)\);", source)
    assert imported
    assert set(imported) <= set(errors.__all__)
    assert len(imported) == source.count("import_exception!(")
