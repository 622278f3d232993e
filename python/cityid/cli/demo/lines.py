"""The demo's words: one line a fact, in Chinese and English, both complete; figures come from the run."""

import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from cityid.cli.messages import choose

__all__ = ["LINES", "Narrator"]

LINES: Final[Mapping[str, tuple[str, str]]] = {
    "ready": (
        "四个节点就绪：{cities}，四个独立进程，{seconds:.1f} 秒",
        "four nodes are ready: {cities}: four processes, {seconds:.1f} s",
    ),
    "words": (
        "创世文件的六个词：{words}（测试网络 TEST）",
        "the genesis in six words: {words} (TEST network)",
    ),
    "admitted": (
        "石家庄接纳两家机构：{office}（照明）与 {other}（停车），高度 {height}",
        "Shijiazhuang admits two offices: {office} (lighting) and {other} (parking), at height {height}",
    ),
    "ranges": (
        "两家同时申请号段（分别经石家庄与北京）：{office} 得 {first}，{other} 得 {second}",
        "both ask for codes at once, in two cities: {office} gets {first}, {other} gets {second}",
    ),
    "imported": (
        "lamps.csv（合成数据，种子 {seed}）{read} 行：登记 {imported}，拒绝 {rejected}，{seconds:.1f} 秒；"
        "再来一次：新登记 {again}",
        "lamps.csv (synthetic, seed {seed}), {read} rows: {imported} registered, {rejected} rejected, {seconds:.1f} s; "
        "run again: {again} new",
    ),
    "rejected": (
        "拒绝的行及原因（改法见 {file}）：{rejects}",
        "bad rows, line and reason (cures in {file}): {rejects}",
    ),
    "code": ("一盏灯的编码：{code}", "one lamp's code: {code}"),
    "resolved": (
        "断开深圳与石家庄的线路，深圳从本机内存解析：{status}，{ms:.1f} 毫秒，发往石家庄 {bytes} 字节",
        "Shenzhen resolves it from its own memory, its cable to Shijiazhuang cut: {status}, {ms:.1f} ms, "
        "{bytes} bytes to Shijiazhuang",
    ),
    "saved": (
        "答复存为 {file}（{bytes} 字节）；此后的验证进程没有网络（{how}），已试：连不上任何节点",
        "the answer is saved: {file}, {bytes} bytes; the next processes have no network ({how}), tried",
    ),
    "verified": (
        "新进程只凭创世文件验证：{verdict}，{of} 城中 {count} 城签名，{age:.0f} 秒前",
        "a new process with the genesis file alone: {verdict}, {count} of {of} cities, {age:.0f} s old",
    ),
    "record_changed": (
        "记录改动一个字节：拒绝于{step}：{why}",
        "one byte of the record changed: refused at {step}: {why}",
    ),
    "proof_changed": (
        "证明改动一个字节：拒绝于{step}：{why}",
        "one byte of the proof changed: refused at {step}: {why}",
    ),
    "signatures_removed": ("去掉签名：拒绝于{step}：{why}", "signatures removed: refused at {step}: {why}"),
    "not_registered": ("格式正确但无人登记的 {code}：{verdict}", "well-formed, issued by nobody: {code}: {verdict}"),
    "mismatch": (
        "同一流水号写在另一家机构名下 {code}：{verdict}",
        "the lamp's serial under the other office: {code}: {verdict}",
    ),
    "sealed": (
        "停车中心一笔交易封存 {count} 个车位（文件 {bytes} 字节，{receipts} 城留存并签收据），高度 {height}，"
        "{seconds:.1f} 秒",
        "the parking office seals {count} spaces in one transaction (a file of {bytes} bytes, kept by {receipts} "
        "cities) at height {height}, {seconds:.1f} s",
    ),
    "sealed_proof": (
        "深圳取得该表后逐项作证：一个车位{present}（{bytes} 字节），空号{absent}（{absent_bytes} 字节）",
        "Shenzhen has fetched the table and proves single items: a space {present} ({bytes} bytes), a gap {absent} "
        "({absent_bytes} bytes)",
    ),
    "overridden": (
        "封存号段中改动一项 {code}：现为{status}，高度 {height}；答复含表、改动两份证明，{bytes} 字节",
        "one item of the sealed range is changed, {code}: {status} at height {height}; the answer proves table and "
        "override, {bytes} bytes",
    ),
    "stalled": (
        "断开杭州，其余三城在高度 {height} 登记新编码；问杭州（要求高度 ≥ {height}，它停在 {behind}）：{verdict}",
        "Hangzhou is cut off while a fresh code commits at {height}; asked with min_height {height} it says, "
        "at {behind}: {verdict}",
    ),
    "killed": (
        "杭州接回并追上；kill -9 北京：其余三城继续提交 {count} 笔，高度 {before} → {after}",
        "Hangzhou is back; kill -9 Beijing: 3 of 4 go on and commit {count} more, height {before} to {after}",
    ),
    "restarted": (
        "北京重启，{seconds:.1f} 秒后到达高度 {height}，状态根与深圳相同：{root}",
        "Beijing restarts: at height {height} after {seconds:.1f} s, with Shenzhen's root {root}",
    ),
    "latency": (
        "提交延迟（逐笔 {count} 笔）p50 {p50:.0f} / p99 {p99:.0f} 毫秒；突发 {burst} 笔：每秒 {rate:.0f} 笔",
        "commit latency ({count}, one by one) p50 {p50:.0f} / p99 {p99:.0f} ms; "
        "a burst of {burst}: {rate:.0f} transactions/s",
    ),
    "resolve_time": (
        "解析（HTTP）p50 {plain:.1f} 毫秒；验证一份答复 {verify:.2f} 毫秒；答复 {bytes} 字节；四城共用 {cores} 核",
        "resolve (HTTP) p50 {plain:.1f} ms; verify {verify:.2f} ms; answer {bytes} bytes; four cities on {cores} cores",
    ),
    "joined": (
        "三城投票接纳第五城苏州：{seconds:.1f} 秒后它在高度 {height} 追上并跟随（不投票）",
        "three cities vote to admit a fifth, Suzhou: {seconds:.1f} s later it follows, at height {height}",
    ),
    "five": (
        "四城投票，委员会自高度 {height} 后为五城；信任自创世文件走到新委员会，离线验证其答复："
        "{of} 城中 {count} 城签名",
        "four vote for a committee of five, after height {height}; trust walks there from the genesis and verifies its "
        "answer offline, {count} of {of} cities",
    ),
    "keep": ("继续运行：cityid up --dir {directory}", "keep it running: cityid up --dir {directory}"),
    "yourself": (
        "自己验证：cityid verify {file} --trust {genesis} --max-age any",
        "verify it yourself: cityid verify {file} --trust {genesis} --max-age any",
    ),
    "kernel": ("内核的空网络命名空间", "an empty network namespace"),
    "hook": ("进程内拒绝一切套接字", "sockets refused in the process"),
}
RED: Final = "\x1b[31m"
PLAIN: Final = "\x1b[0m"


class Narrator:
    """Says facts on stdout as they come, and keeps them with their figures for `--json`."""

    def __init__(self, *, quiet: bool) -> None:
        self.facts: list[dict[str, Any]] = []
        self._quiet = quiet

    def tell(self, key: str, **figures: Any) -> None:
        """One fact."""
        text = choose(*LINES[key]).format(**figures)
        self.facts.append({"fact": key, "text": text.strip(), **figures})
        if not self._quiet:
            print(text, flush=True)

    def failed(self, text: str) -> None:
        """What went wrong, in red where colours are wanted: the only red there is."""
        coloured = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        print(f"{RED}✗ {text}{PLAIN}" if coloured else f"✗ {text}", file=sys.stderr)
