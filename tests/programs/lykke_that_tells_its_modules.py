"""`lykke`, which says at its end on stderr what it has imported."""

import sys

sys.argv = ["lykke", *sys.argv[1:]]

from lykke_cli.__main__ import main  # noqa: E402

status: int | str | None
try:
    status = main()
except SystemExit as stop:
    status = stop.code
sys.stderr.write(" ".join(["MODULES", *sorted(sys.modules)]) + "\n")
sys.exit(status)
