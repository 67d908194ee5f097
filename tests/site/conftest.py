"""These tests need the environment of `make docs` and the site that it has built: else nothing is collected."""

import os

collect_ignore_glob = [] if "SPARSE_EMBED_SITE" in os.environ else ["test_*.py"]
