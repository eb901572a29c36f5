"""Ask every address that the pages link to whether it is still there; needs a network, so no test and no CI run it.

    python scripts/check_links.py
    python scripts/check_links.py docs/understand/data.md

Links between pages are checked by `make docs`. Exit code 1 if an address does not answer, with the pages that name it.
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blocks_in_docs import list_pages

ADDRESS = re.compile(r"\]\((https?://[^)\s]+)\)|<(https?://[^>\s]+)>")
SECONDS = 20
BUSY = {403, 405, 429, 503}  # the place is there and does not serve a program, or not now


def main() -> int:
    """Look at all pages, or those that are named."""
    addresses = list_addresses([Path(word) for word in sys.argv[1:]] or list_pages())
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(addresses, pool.map(ask, addresses), strict=True))
    dead = {address: answer for address, answer in answers.items() if answer}
    for address, answer in dead.items():
        print(f"{address}: {answer} ({', '.join(map(str, addresses[address]))})")
    print(f"{len(addresses)} addresses, {len(dead)} without an answer")
    return int(bool(dead))


def list_addresses(pages: Sequence[Path]) -> dict[str, list[Path]]:
    """Address -> the pages that link to it."""
    found: dict[str, list[Path]] = {}
    for page in pages:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for address in dict.fromkeys(first or second for first, second in ADDRESS.findall(text)):
            found.setdefault(address, []).append(page)
    return found


def ask(address: str) -> str:
    """What is wrong with an address; nothing where it answers."""
    request = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code in BUSY else f"{error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return str(error)


if __name__ == "__main__":
    sys.exit(main())
