"""What all tests share."""

from hypothesis import settings

# The first call of a kernel compiles it, so the time of one example says nothing.
settings.register_profile("fastmlp", deadline=None)
settings.load_profile("fastmlp")
