"""`python -m interchain_connect`."""

import sys

from interchain_connect.cli import main

sys.exit(main())
