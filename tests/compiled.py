"""``python -m tests.compiled NUMBER``: this case of the contract suite, compiled."""

import sys

from tests.contracts import assert_compiles
from tests.models.test_contracts import CASES

assert_compiles(CASES[int(sys.argv[1])])
