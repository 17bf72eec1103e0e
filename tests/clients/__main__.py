"""``make clients``: generate a client in every language, compile it, and let it tell the story.

With names, of folders beside this file, only those. The table goes to docs/clients-results.md, unless
some were left out.
"""

import shutil
import sys
from collections.abc import Sequence

from tests.clients.generators import CLIENTS, missing
from tests.clients.running import FOLDER, ROOT, STORY, Failure, Result, prepare, servers, try_out

TABLE = ROOT / "docs" / "clients-results.md"
STEPS = ("generate", "compile", *STORY)
HEAD = """# What each client did

Written by `make clients`: milliseconds of each step; an empty place is a step that failed.

"""


def table(results: Sequence[Result]) -> str:
    """The results as a page."""
    names = [step.replace("_", " ") for step in STEPS]
    lines = [f"| client | {' | '.join(names)} | |", "|---" + "|---:" * len(names) + "|---|"]
    for each in results:
        times = [str(each.times.get(step, "")) for step in STEPS]
        lines.append(f"| {each.client.title} | {' | '.join(times)} | {'failed' if each.problems else 'ok'} |")
    return HEAD + "\n".join(lines) + "\n"


def main(names: Sequence[str]) -> int:
    """Try the clients; the result is the exit status."""
    chosen = [each for each in CLIENTS if not names or each.name in names]
    unknown = set(names) - {each.name for each in CLIENTS}
    if unknown:
        print(f"clients: there is no {', '.join(sorted(unknown))}.", file=sys.stderr)
        return 2
    absent = sorted({sentence for each in chosen for sentence in missing(each)})
    if absent:
        print(*(f"clients: {sentence}" for sentence in absent), sep="\n", file=sys.stderr)
        return 2
    try:
        prepare(any(need == "npm" for each in chosen for need, _ in each.needs))
    except Failure as failure:
        print(f"clients: the generators cannot be installed: {failure}", file=sys.stderr)
        return 2
    data = FOLDER / "data"
    shutil.rmtree(data, ignore_errors=True)
    results = []
    with servers(data) as target:
        for client in chosen:
            results.append(try_out(client, target))
            print(results[-1], *results[-1].problems, sep="\n", flush=True)
    if not names:
        TABLE.write_text(table(results))
    bad = [each.client.name for each in results if each.problems]
    print(f"These failed: {', '.join(bad)}." if bad else "Every client told the whole story.")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
