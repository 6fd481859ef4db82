"""The command line as `python -m medsr.cli`, for environments whose console script is not on the path."""

import sys

from medsr.cli import main

sys.exit(main())
