"""The five sizes of the laboratory. A profile changes settings only; code and notebooks are the same."""

PROFILES = ("smoke", "tiny", "world-gpu", "gpu", "paper")
OFFLINE_PROFILES = ("smoke", "tiny", "world-gpu")  # unless the user sets HF_HUB_OFFLINE


def require_profile(profile: str) -> str:
    """Raises ValueError, naming the five profiles, for any other."""
    if profile not in PROFILES:
        raise ValueError(f"no profile named {profile!r}; known: {', '.join(PROFILES)}")
    return profile
