"""Settings of all tests."""

from hypothesis import settings

# No test is about time: a first import, or a busy machine, would miss Hypothesis' 200 ms.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
