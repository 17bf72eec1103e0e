"""``python -m tests.soak.shifted FILE …``: the program, by a clock that is as many seconds off as FILE says.

Nothing outside a process shifts its clock alone, so the program's own two clocks are replaced in it.
"""

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from server import app
from server.__main__ import main
from webhooks import delivery


def shifted(clock: Callable[[], datetime], file: Path) -> Callable[[], datetime]:
    """The clock, off by what the file says at that moment."""
    return lambda: clock() + timedelta(seconds=int(file.read_text()))


if __name__ == "__main__":
    file = Path(sys.argv[1])
    app.now = shifted(app.now, file)
    defaults = delivery.Worker.__init__.__kwdefaults__
    assert defaults is not None
    defaults["clock"] = shifted(defaults["clock"], file)
    sys.exit(main(sys.argv[2:]))
