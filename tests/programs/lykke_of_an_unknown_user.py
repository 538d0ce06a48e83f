"""`lykke` of a user whom the system does not know."""

import pwd
import sys


def nobody(_: int) -> pwd.struct_passwd:
    raise KeyError


pwd.getpwuid = nobody

from lykke_cli.__main__ import main  # noqa: E402

sys.exit(main())
