"""How a request travels: the one HTTP layer of both providers."""
