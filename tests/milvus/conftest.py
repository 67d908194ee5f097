"""These tests have an environment of their own, `make milvus`: the newest adapters of both frameworks cannot share one.

There SPARSE_EMBED_MILVUS is set, and a missing package is an error; without it nothing here is collected.
"""

import os

collect_ignore_glob = [] if "SPARSE_EMBED_MILVUS" in os.environ else ["test_*.py"]
