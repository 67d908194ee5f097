"""Ray: `EmbedBatch` and `map_options` for datasets of Ray Data, and `RayRateLimiter`, one rate limit for all actors."""

from sparse_embed.extras import requires

with requires("ray", "ray"):
    import ray  # noqa: F401  # imported here so that its absence is one clear sentence

from sparse_embed.ray.batch import EmbedBatch, map_options
from sparse_embed.ray.limiter import RayRateLimiter

__all__ = ["EmbedBatch", "RayRateLimiter", "map_options"]
