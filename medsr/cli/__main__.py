"""`python -m medsr.cli`, where the console script is not on the path."""

import sys

from medsr.cli import main

sys.exit(main())
