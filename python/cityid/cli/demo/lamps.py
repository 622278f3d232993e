"""A register of street lamps that never stood anywhere: made from a seed, marked as synthetic in every row.

The same seed gives the same bytes. A few rows are wrong on purpose, each in another way, as real registers are.
"""

import csv
import io
import random
from pathlib import Path
from typing import Final

__all__ = ["BAD_ROWS", "LAMPS", "write_lamps"]

LAMPS: Final = 5_000
HEADER: Final = ("编号", "名称", "道路", "功率_瓦", "安装日期", "经度", "纬度", "数据来源")
ROADS: Final = ("中山路", "裕华路", "和平路", "建设大街", "平安大街", "槐安路", "体育大街", "友谊大街")
BAD_ROWS: Final = 5


def write_lamps(path: Path, *, seed: int, count: int = LAMPS) -> int:
    """Writes `count` good rows and BAD_ROWS bad ones; the number of all rows."""
    choose = random.Random(seed)
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(HEADER)
    good = [_lamp(choose, number, seed) for number in range(1, count + 1)]
    places = sorted(choose.sample(range(1, count), BAD_ROWS), reverse=True)
    rows: list[list[str]] = [*good]
    for place, bad in zip(places, _bad_rows(choose, good[0], seed), strict=True):
        rows.insert(place, bad)
    table.writerows(rows)
    # The mark at the start is what spreadsheets write; the importer takes it off.
    path.write_bytes(text.getvalue().encode("utf-8-sig"))
    return len(rows)


def _lamp(choose: random.Random, number: int, seed: int) -> list[str]:
    year, month, day = choose.randint(2012, 2025), choose.randint(1, 12), choose.randint(1, 28)
    return [
        f"SJZ-L-{number:05d}",
        "路灯",
        choose.choice(ROADS),
        str(choose.choice((60, 90, 120, 150, 180))),
        f"{year}-{month:02d}-{day:02d}",
        f"{114.40 + choose.random() * 0.20:.6f}",
        f"{38.00 + choose.random() * 0.10:.6f}",
        f"合成数据 synthetic seed={seed}",
    ]


def _bad_rows(choose: random.Random, first: list[str], seed: int) -> list[list[str]]:
    def lamp(mark: str) -> list[str]:
        row = _lamp(choose, 0, seed)
        row[0] = f"SJZ-X-{mark}"
        return row

    nameless = lamp("")
    nameless[0] = ""
    twice = lamp("TWICE")
    twice[0] = first[0]
    swapped = lamp("SWAPPED")
    swapped[5], swapped[6] = swapped[6], swapped[5]
    long = lamp("LONG")
    long[2] = "路" * 400
    short = lamp("SHORT")[:-2]
    # Written from the end of the file upwards: the duplicate stands below the row that it repeats.
    return [twice, nameless, swapped, long, short]
