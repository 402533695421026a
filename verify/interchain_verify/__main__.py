"""`python3 -m interchain_verify FILE`."""

import sys

from interchain_verify.cli import main

sys.exit(main())
