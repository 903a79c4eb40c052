"""`python -m captioner` is the command `captioner`."""

import sys

from captioner.cli import main

sys.exit(main())
