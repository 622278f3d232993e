"""The benches' own promises: the shape of the results, which way a ratio goes, and the refusal to measure on memory.

No figure is asserted: a machine's speed is no property of the program.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benches import machine, rows
from benches.__main__ import PARTS, main
from benches.rows import Peer

ROOT = Path(__file__).parents[2]
FIELDS = {
    "name",
    "value",
    "unit",
    "better",
    "min",
    "max",
    "reps",
    "peer",
    "peer_value",
    "ratio",
    "cpu_us_per_op",
    "command",
}

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/sdb1 /tmp/a\\040disk xfs rw 0 0
tmpfs /home ramfs rw 0 0
"""


def test_a_row_has_every_field_and_survives_json() -> None:
    row = rows.make(
        "a.b", [3.0, 1.0, 2.0], "us", better="lower", peer=Peer("other", [4.0, 5.0, 6.0]), cpu_us_per_op=2.5
    )
    assert set(json.loads(rows.to_json(row))) == FIELDS
    assert rows.from_json(rows.to_json(row)) == row
    assert (row.value, row.min, row.max, row.reps, row.peer_value) == (2.0, 1.0, 3.0, 3, 5.0)
    assert row.command == "make bench NAME=a.b"


@pytest.mark.parametrize(("better", "ratio"), [("lower", 2.0), ("higher", 0.5)])
def test_a_ratio_above_one_means_that_ours_is_better(better: str, ratio: float) -> None:
    assert better in ("lower", "higher")
    row = rows.make("a", [10.0], "x", better="lower" if better == "lower" else "higher", peer=Peer("other", [20.0]))
    assert row.ratio == ratio


def test_a_peer_that_did_not_run_leaves_its_name_and_no_figure() -> None:
    row = rows.make("a", [10.0], "x", better="lower", peer=Peer("other"))
    assert (row.peer, row.peer_value, row.ratio) == ("other", None, None)
    assert "other" in rows.table([row])


@pytest.mark.parametrize(
    ("place", "kind"),
    [("/srv/x", "ext4"), ("/tmp/x", "tmpfs"), ("/tmp/a disk/x", "xfs"), ("/tmpx", "ext4"), ("/home/me", "ramfs")],
)
def test_the_file_system_of_a_folder_is_that_of_the_longest_mount_point(place: str, kind: str) -> None:
    assert machine.filesystem_of(Path(place), MOUNTS) == kind


def test_a_folder_in_memory_is_refused_and_one_on_a_disk_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CITYID_BENCH_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["benches", "hash"])
    monkeypatch.setattr("benches.__main__._run_parts", lambda parts, prefix, data: ([], []))
    monkeypatch.setattr(machine, "repository", lambda: tmp_path)
    monkeypatch.setattr(machine, "filesystem_of", lambda place: "tmpfs")
    assert main() == 2
    assert "tmpfs" in capsys.readouterr().err
    assert not (tmp_path / "benches" / "results" / "latest.json").exists()

    monkeypatch.setattr(machine, "filesystem_of", lambda place: "ext4")
    assert main() == 0
    written = json.loads((tmp_path / "benches" / "results" / "latest.json").read_text())
    assert set(written) == {"machine", "cpu_flags", "commit", "fsync_p50_ms", "filesystem", "results"}
    assert written["filesystem"] == "ext4"
    assert list(tmp_path.iterdir()) == [tmp_path / "benches"]


def test_every_name_belongs_to_one_part_that_exists() -> None:
    names = [name for names in PARTS.values() for name in names]
    assert len(names) == len(set(names))
    for part in PARTS:
        assert (ROOT / "benches" / f"{part}.py").is_file()
    assert {"signature.single", "state.update.10k", "answer.verify.4", "write.saturated.w4000"} <= set(names)


def test_a_prefix_that_fits_nothing_is_an_error_with_the_names() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benches", "nothing"], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "signature.single" in done.stderr


def test_a_slower_backend_than_the_processor_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    signatures = pytest.importorskip("benches.signatures")
    signatures._check_backend()  # the control: what was built here is right
    monkeypatch.setattr(signatures, "signature_backend", lambda: "slow")
    with pytest.raises(signatures.WrongBackend, match="slow"):
        signatures._check_backend()
