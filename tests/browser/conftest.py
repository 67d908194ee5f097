"""These tests need a real browser and have an environment of their own: `make browser`.

There SPARSE_EMBED_BROWSER is set, and a missing package is an error; without it nothing here is collected.
"""

import os

collect_ignore_glob = [] if "SPARSE_EMBED_BROWSER" in os.environ else ["test_*.py"]
