"""Check a saved answer without any network: `python verify_offline.py ANSWER TRUST CODE`.

TRUST is a trust file or the genesis file, which people compare by its six words.
"""

import sys
import time
from pathlib import Path

import cityid


def main(answer: str, trust: str, code: str) -> str:
    believed = cityid.Trust.load(trust)
    verdict = cityid.verify(Path(answer).read_bytes(), believed, code=code, now=time.time())
    count, of = verdict.signatures
    if verdict.verdict == "INVALID":
        name, _, detail = verdict.steps[-1]
        return f"INVALID at the step {name}: {detail}"
    return f"{verdict.verdict} at height {verdict.height}, signed by {count} of {of} cities"


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
