"""What may stand below this program: pinned by hash, from the registries, under permissive licences, without `unsafe`.

`make audit` runs this and then cargo-deny, which also knows advisories; this part needs no network and no other tool.
Whoever adds a dependency under a new licence decides about it here, in `deny.toml`, and in a review.
"""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")
CARGO_LOCKS = ("Cargo.lock", "rust/fuzz/libfuzzer/Cargo.lock")
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0", "Python-2.0",
    "Unicode-3.0", "Zlib",
}  # fmt: skip
FILE_WISE = {"certifi", "hypothesis", "pathspec"}
"""MPL-2.0 binds the files that are under it and no other: used as they are, and decided one by one."""
CLASSIFIED = {
    "Apache Software License": "Apache-2.0", "BSD License": "BSD-3-Clause", "ISC License (ISCL)": "ISC",
    "MIT License": "MIT", "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "Public Domain": "0BSD",
}  # fmt: skip
SPELLED = {"MIT": "MIT", "Apache 2.0": "Apache-2.0", "BSD-3-Clause": "BSD-3-Clause"}


# ---------------------------------------------------------------- Python


def entries(lock: str) -> Iterator[list[str]]:
    """The lines of each requirement, without comments."""
    found: list[str] = []
    for line in lock.splitlines():
        text = line.split(" #")[0].split("    # ")[0].rstrip()
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        if not text.startswith(" ") and found:
            yield found
            found = []
        found.append(text)
    if found:
        yield found


def faults(lock: str) -> list[str]:
    """What is not a name, one version and hashes."""
    wrong = []
    for first, *rest in entries(lock):
        pinned = re.fullmatch(r"[a-zA-Z0-9._-]+(\[[a-z,]+\])?==[0-9a-zA-Z.+!]+( ; [^\\@]+)? \\", first)
        hashes = [line.strip().removesuffix(" \\") for line in rest]
        if not pinned or not hashes or not all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes):
            wrong.append(first)
    return wrong


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_pinned_by_hash_and_comes_from_no_address(name: str) -> None:
    lock = (ROOT / name).read_text()
    assert len(list(entries(lock))) > 20
    assert faults(lock) == []
    assert "://" not in lock
    assert not re.search(r"^\s*(-e|--index|--extra|--find|--trusted)", lock, re.MULTILINE)


@pytest.mark.parametrize(
    "line",
    [
        "trio==0.30.0",
        "trio>=0.30 \\\n    --hash=sha256:" + "0" * 64,
        "trio @ git+https://example.org/trio \\\n    --hash=sha256:" + "0" * 64,
        "trio==0.30.0 \\\n    --hash=md5:" + "0" * 32,
        "-e . \\\n    --hash=sha256:" + "0" * 64,
    ],
)
def test_control_what_is_not_pinned_by_hash_is_found(line: str) -> None:
    assert faults(line)
    assert not faults("trio==0.30.0 \\\n    --hash=sha256:" + "0" * 64)


def test_what_a_node_needs_is_locked_alike_for_users_and_for_developers() -> None:
    used, developed = ({first.split(" ")[0] for first, *_ in entries((ROOT / name).read_text())} for name in LOCKS)
    assert used <= developed


def told(distribution: Distribution, name: str) -> str | None:
    return next(iter(distribution.metadata.get_all(name) or ()), None)


def alternatives(distribution: Distribution) -> list[set[str]]:
    """The licences of a package, as sets of which one may be chosen."""
    expression = told(distribution, "License-Expression") or SPELLED.get(told(distribution, "License") or "")
    if expression is None:
        named = [
            line.rpartition(" :: ")[2]
            for line in distribution.metadata.get_all("Classifier") or ()
            if "License ::" in line
        ]
        return [{CLASSIFIED.get(name, name)} for name in named]
    return [set(choice.strip("() ").split(" OR ")) for choice in expression.split(" AND ")]


def is_allowed(distribution: Distribution) -> bool:
    allowed = ALLOWED | ({"MPL-2.0"} if distribution.name in FILE_WISE else set())
    found = alternatives(distribution)
    if told(distribution, "License-Expression") is None:
        return any(choice & allowed for choice in found)  # classifiers are alternatives
    return bool(found) and all(choice & allowed for choice in found)


def test_every_package_is_under_a_permissive_licence() -> None:
    installed = [found for found in distributions() if found.name != "cityid"]
    assert len(installed) > 20
    assert [found.name for found in installed if not is_allowed(found)] == []


def test_control_another_licence_is_found(tmp_path: Path) -> None:
    def package(text: str) -> Distribution:
        (tmp_path / "x.dist-info").mkdir(exist_ok=True)
        (tmp_path / "x.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.4\nName: x\nVersion: 1\n{text}\n")
        return Distribution.at(tmp_path / "x.dist-info")

    for text in (
        "License-Expression: GPL-3.0-only",
        "License-Expression: MIT AND AGPL-3.0-only",
        "License: ask me",
        "",
    ):
        assert not is_allowed(package(text)), text
    assert is_allowed(package("License-Expression: GPL-3.0-only OR MIT"))


# ---------------------------------------------------------------- Rust


@pytest.mark.parametrize("name", CARGO_LOCKS)
def test_every_crate_comes_from_the_registry_with_its_checksum(name: str) -> None:
    packages = tomllib.loads((ROOT / name).read_text())["package"]
    own = [package["name"] for package in packages if "source" not in package]
    assert own
    assert all(crate.startswith("cityid-") for crate in own)
    for package in packages:
        if package["name"] not in own:
            assert package["source"] == REGISTRY, package
            assert re.fullmatch(r"[0-9a-f]{64}", package["checksum"]), package


def rust_roots() -> Iterator[Path]:
    """The file that each target of ours starts from, of libraries and programs."""
    for manifest in sorted(ROOT.glob("rust/**/Cargo.toml")):
        if "[package]" in manifest.read_text() and "target" not in manifest.relative_to(ROOT).parts:
            yield from (root for root in manifest.parent.glob("src/lib.rs"))
            yield from manifest.parent.glob("src/main.rs")


def test_no_crate_of_ours_holds_unsafe_code() -> None:
    roots = list(rust_roots())
    assert len(roots) >= 5
    for root in roots:
        assert "#![forbid(unsafe_code)]" in root.read_text(), root
    for path in ROOT.glob("rust/**/*.rs"):
        if "target" not in path.relative_to(ROOT).parts:
            code = re.sub(r"//.*", "", path.read_text()).replace("forbid(unsafe_code)", "")
            assert not re.search(r"\bunsafe\b", code), path


def test_the_licences_of_crates_are_those_that_deny_toml_allows() -> None:
    """As cargo-deny does it, by what the manifests say; without network, and without building a tool."""
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not on the PATH")
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"the crates are not here yet: {done.stderr.strip()[-200:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    allowed = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
    crates = [crate for crate in found["packages"] if crate["id"] not in found["workspace_members"]]
    assert len(crates) > 100
    assert [crate["name"] for crate in crates if not satisfied(crate["license"] or "", allowed)] == []
    assert not satisfied("GPL-3.0-only", allowed), "the control"
    assert not satisfied("MIT AND GPL-3.0-only", allowed), "the control"


def satisfied(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met; in manifests `/` is an old `OR`, and brackets hold alternatives."""
    parts = [part.strip("() ") for part in expression.replace("/", " OR ").split(" AND ")]
    return all(any(choice.strip("() ") in allowed for choice in part.split(" OR ")) for part in parts)


# ---------------------------------------------------------------- what the source itself never does


def test_the_package_runs_no_text_as_code_and_no_shell() -> None:
    forbidden = re.compile(
        r"\b(eval|exec)\(|\bimport (pickle|marshal|shelve|yaml)\b|subprocess\.\w+\([^)]*shell=True"
        r"|verify=False|CERT_NONE|os\.system"
    )
    for path in (ROOT / "python").rglob("*.py"):
        code = re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text(encoding="utf-8"))
        assert not forbidden.search(code), path
    assert forbidden.search("requests.get(url, verify=False)"), "the control"
