"""`python -m mirl` is `mirl`."""

import sys

from mirl.cli import main

sys.exit(main())
