"""The shipped list of cities: complete, well-formed and in agreement with what its README says."""

import csv
import re
from collections import Counter
from importlib import resources

import pytest

COLUMNS = ["code", "name", "level", "province"]


@pytest.fixture(scope="module")
def cities() -> list[dict[str, str]]:
    text = resources.files("cityid").joinpath("data", "cities.tsv").read_text(encoding="utf-8")
    assert "\r" not in text
    reader = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    rows = list(reader)
    assert reader.fieldnames == COLUMNS
    return rows


def test_every_row_is_whole(cities: list[dict[str, str]]) -> None:
    for row in cities:
        assert list(row) == COLUMNS
        assert re.fullmatch(r"[1-6][0-9]{5}", row["code"]), row
        assert all(value and value == value.strip() for value in row.values()), row


def test_codes_are_unique_and_ascending(cities: list[dict[str, str]]) -> None:
    codes = [row["code"] for row in cities]
    assert codes == sorted(set(codes))


def test_the_code_shows_the_level(cities: list[dict[str, str]]) -> None:
    """GB/T 2260: province, prefecture, county, two digits each; 00 where the level ends."""
    for row in cities:
        prefecture, county = row["code"][2:4], row["code"][4:6]
        match row["level"]:
            case "municipality":
                assert (prefecture, county) == ("00", "00"), row
            case "prefecture":
                assert prefecture != "00", row
                assert county == "00", row
            case "county-level-city":
                assert county != "00", row
            case other:
                pytest.fail(f"{row['code']} has the unknown level {other}")


def test_one_province_per_prefix(cities: list[dict[str, str]]) -> None:
    provinces = {(row["code"][:2], row["province"]) for row in cities}
    assert len({prefix for prefix, _ in provinces}) == len({name for _, name in provinces}) == len(provinces)


def test_counts_are_those_of_the_source(cities: list[dict[str, str]]) -> None:
    assert Counter(row["level"] for row in cities) == {"municipality": 4, "prefecture": 333, "county-level-city": 398}


@pytest.mark.parametrize(
    ("code", "name"),
    [("110000", "北京市"), ("130100", "石家庄市"), ("330100", "杭州市"), ("440300", "深圳市")],
)
def test_known_cities(cities: list[dict[str, str]], code: str, name: str) -> None:
    assert [row["name"] for row in cities if row["code"] == code] == [name]
