"""The rejects of an import as a table that people open in a spreadsheet: line, column, value, reason, cure.

The reason is a stable word for programs; the cure is a sentence for people, in Chinese or English. A value that a
spreadsheet would run as a formula is shown with an apostrophe before it.
"""

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from cityid.client.importing.rows import ROW_BYTES, ROW_LINES, VALUE_BYTES, Reject

__all__ = ["cure", "name", "write_rejects"]

Language = Literal["zh", "en"]

CURES: Final[Mapping[str, tuple[str, str]]] = {
    "missing_id": ("填写该行的编号", "fill in the identifier of this row"),
    "duplicate_id": (
        "同一编号前面已出现；改正其一或删去重复行",
        "the same identifier stands above: correct one of the two or drop the row",
    ),
    "missing_serial": (
        "填写流水号，或用 --map 流水号列= 让系统分配",
        "fill in the serial, or leave the column out with --map COLUMN= to have serials assigned",
    ),
    "bad_serial": ("流水号是 1 到 9 位数字", "a serial is 1 to 9 digits"),
    "duplicate_serial": ("同一流水号前面已出现；改正其一", "the same serial stands above: correct one of the two"),
    "coordinate_out_of_range": (
        "经度在 ±180、纬度在 ±90 之内；两列是否写反了？",
        "longitude lies within ±180 and latitude within ±90: are the two swapped?",
    ),
    "not_a_number": ("坐标写成十进制度，例如 38.0428", "write coordinates in decimal degrees, for example 38.0428"),
    "not_a_point": (
        "只导入点要素；把线或面换成一个代表点",
        "only points are imported: give a line or an area one representative point",
    ),
    "column_count": (
        "该行的列数与表头不同；查看是否缺少逗号，或有未加引号的逗号",
        "the row has another number of columns than the header: look for a missing comma, or one that needs quotes",
    ),
    "bad_csv": ("引号有误；值内的引号要写两次", "the quotes are wrong: a quote inside a value is written twice"),
    "unclosed_or_too_long": (
        f"引号未闭合，或该行超过 {ROW_BYTES} 字节或 {ROW_LINES} 行",
        f"a quote stays open, or the row is longer than {ROW_BYTES} bytes or {ROW_LINES} lines",
    ),
    "not_utf8": (
        "该行不是 UTF-8；另存为“CSV UTF-8”，或：iconv -f GB18030 -t UTF-8",
        "the row is not UTF-8: save it as “CSV UTF-8”, or: iconv -f GB18030 -t UTF-8",
    ),
    "too_long": (
        f"值不超过 {VALUE_BYTES} 字节（约 {VALUE_BYTES // 3} 个汉字）",
        f"a value has at most {VALUE_BYTES} bytes",
    ),
    "control_character": ("删去不可见的控制字符", "remove the invisible control characters"),
    "changed": (
        "该编号已登记，内容不同；用 cityid item update 更新",
        "this identifier is registered with other content: use cityid item update",
    ),
    "exists": ("该流水号已登记；换一个流水号", "this serial is registered already: give the row another one"),
    "not_in_range": (
        "流水号不在本机构的号段内；换一个，或先申请号段",
        "the serial lies in no range of the organisation: use another one, or ask for the range first",
    ),
    "sealed": ("该号段已封存；换一个号段", "the range is sealed: use another one"),
    "schema": (
        "不符合该品类的架构：见“value”一栏；cityid schema show 可查看架构",
        "the row breaks the schema of its category, as the value column says; cityid schema show prints it",
    ),
    "not_21_digits": (
        "旧编码应为 21 位数字：区划 6 位、类别 6 位、流水号 9 位",
        "an old number has 21 digits: 6 of the district, 6 of the class, 9 of the serial",
    ),
    "other_class": (
        "旧编码属于另一类别；按类别分文件导入",
        "the old number is of another class: adopt each class from a file of its own",
    ),
    "bad_alias": (
        "旧编码应为 1 至 64 个可打印 ASCII 字符，不含空格",
        "an old number has 1 to 64 printable ASCII characters and no spaces",
    ),
}


NAMES: Final[Mapping[str, str]] = {
    "missing_id": "缺编号",
    "duplicate_id": "编号重复",
    "missing_serial": "缺流水号",
    "bad_serial": "流水号有误",
    "duplicate_serial": "流水号重复",
    "coordinate_out_of_range": "坐标越界",
    "not_a_number": "不是数字",
    "not_a_point": "不是点",
    "column_count": "列数不符",
    "bad_csv": "引号有误",
    "unclosed_or_too_long": "引号未闭合或过长",
    "not_utf8": "不是 UTF-8",
    "too_long": "值过长",
    "control_character": "控制字符",
    "changed": "内容已变",
    "exists": "已登记",
    "not_in_range": "不在号段内",
    "sealed": "号段已封存",
    "schema": "不符合架构",
    "not_21_digits": "不是 21 位",
    "other_class": "类别不符",
    "bad_alias": "旧编码有误",
}


def name(reason: str, language: Language) -> str:
    """A reason in two or three words."""
    return NAMES.get(reason, reason) if language == "zh" else reason.replace("_", " ")


def cure(reason: str, language: Language) -> str:
    """What to do about a reason."""
    chinese, english = CURES.get(reason, ("按原因改正该行", "correct the row for this reason"))
    return chinese if language == "zh" else english


def write_rejects(path: Path, rejects: Sequence[Reject], *, language: Language) -> None:
    """Writes the table, or removes an earlier one when nothing is rejected. The file appears whole or not at all."""
    if not rejects:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["line", "column", "value", "reason", "cure"])
    for reject in rejects:
        table.writerow(
            [reject.line, _inert(reject.column), _inert(reject.value), reject.reason, cure(reject.reason, language)]
        )
    # The mark at the start tells spreadsheets that this is UTF-8. Values may be personal: for the owner only.
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text.getvalue().encode("utf-8-sig", "backslashreplace"))
    temporary.replace(path)


def _inert(value: str) -> str:
    return "'" + value if re.match(r"[=+@\t\r]|-(?![0-9.])", value) else value
