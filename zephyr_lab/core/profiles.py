"""The five sizes of the laboratory. A profile changes settings only; code and notebooks are the same."""

PROFILES = ("smoke", "tiny", "world-gpu", "gpu", "paper")
GROUPS = {"world": ("smoke", "tiny", "world-gpu"), "hub": ("gpu", "paper")}  # whose models and data are of one kind
OFFLINE_PROFILES = ("smoke", "tiny", "world-gpu")  # unless the user sets HF_HUB_OFFLINE


def require_profile(profile: str) -> str:
    """Raises ValueError, naming the five profiles, for any other."""
    if profile not in PROFILES:
        raise ValueError(f"no profile named {profile!r}; known: {', '.join(PROFILES)}")
    return profile


def group_of(profile: str) -> str:
    """ "world" where models are trained on the embedded world, "hub" where models and data are real ones."""
    return next(group for group, members in GROUPS.items() if require_profile(profile) in members)
