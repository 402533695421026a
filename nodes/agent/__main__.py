"""`python -m nodes.agent` is `interchain-node`."""

import sys

from nodes.agent.cli import main

sys.exit(main())
