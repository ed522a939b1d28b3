"""The same tree as src/sightline; contracts.py is the suite that every model passes.

``checked`` checks the types and shapes of signatures at every call made in the tests.
"""

from beartype import BeartypeConf, beartype

# Where a float is wanted an int will do, as in Python at large (PEP 484).
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
