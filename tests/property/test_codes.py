"""Codes: every form of a code reads back to it, a mistyped character never reads as another code."""

import string

from hypothesis import given
from hypothesis import strategies as st

from cityid import Code, Members, parse_many
from cityid._native import make_item_code
from cityid.errors import CodeError
from tests.property import oracle

ALPHANUMERIC = string.digits + string.ascii_uppercase
digits = st.text(string.digits, min_size=6, max_size=6)
orgs = st.text(ALPHANUMERIC, min_size=4, max_size=8)
models = st.text(ALPHANUMERIC, min_size=1, max_size=8)
items = st.builds(
    make_item_code,
    digits,
    orgs | st.none(),
    st.text(string.digits, min_size=2, max_size=2),
    digits,
    models,
    st.integers(0, 999_999_999),
)


@given(items)
def test_every_form_reads_back(text: str) -> None:
    code = Code.parse(text)
    assert (code.kind, code.text) == ("item", text)
    assert text[-1] == oracle.check_character(text[:-1]) == code.check
    for form in (text.lower(), text + "/", f"https://id.example/{text}", f"HTTP://ID.EXAMPLE/x?code={text}"):
        assert Code.parse(form) == code
    assert Code.parse(f"https://id.example{code.path}") == Code.from_did(code.did) == code
    assert code.alias == f"{code.city}{code.cls}{code.serial:09}"


@given(items, st.data())
def test_one_wrong_character_never_reads_as_an_item(text: str, data: st.DataObject) -> None:
    places = [index for index, character in enumerate(text) if character in ALPHANUMERIC and index > 1]
    place = data.draw(st.sampled_from(places))
    wrong = data.draw(st.sampled_from(ALPHANUMERIC.replace(text[place], "")))
    try:
        read = Code.parse(text[:place] + wrong + text[place + 1 :])
    except CodeError:
        return
    assert read.kind == "foreign"  # it breaks the grammar, so it is not ours to judge


@given(st.lists(st.text(max_size=60) | items, max_size=20))
def test_a_bad_row_is_an_error_in_its_place(texts: list[str]) -> None:
    codes, errors = parse_many(texts)
    assert len(codes) == len(errors) == len(texts)
    for text, code, error in zip(texts, codes, errors, strict=True):
        assert (code, error) == alone(text)


def alone(text: str) -> tuple[Code | None, str | None]:
    try:
        return Code.parse(text), None
    except CodeError as refusal:
        return None, str(refusal)


@given(items)
def test_whose_code_it_is_follows_from_the_members(text: str) -> None:
    city = Code.parse(text).city
    assert city is not None
    other = "000001" if city == "000000" else "000000"
    assert Code.parse(text, Members([city, other])).kind == "item"
    assert Code.parse(text, Members([other])).kind == "foreign"
