"""Three million bytes on stdout, as `lykke` writes them."""

import sys

from lykke_cli.cli.output import standard_streams

standard_streams.install()
sys.stdout.write("x" * 3_000_000)
sys.stdout.flush()
