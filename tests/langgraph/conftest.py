"""These tests have an environment of their own, `make langgraph`: langgraph-api pins old versions of grpc and protobuf.

There SPARSE_EMBED_LANGGRAPH is set, and a missing package is an error; without it nothing here is collected.
"""

import os

collect_ignore_glob = [] if "SPARSE_EMBED_LANGGRAPH" in os.environ else ["test_*.py"]
