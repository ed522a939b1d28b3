"""``python -m sightline``, the same as the command ``sightline``."""

import sys

from sightline.cli import main

sys.exit(main())
