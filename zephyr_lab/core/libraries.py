"""Other people's libraries that the lab stands on: whose versions shape a result, and what keeps them quiet."""

# Whose arithmetic shows in a result: their versions are part of every stage's key.
COUNTED_VERSIONS = ("torch", "transformers", "trl", "tokenizers", "numpy")

# Told beside a result, for whoever wants to make it again.
NAMED_PACKAGES = (
    "torch", "transformers", "trl", "tokenizers", "datasets", "accelerate", "peft", "numpy", "scipy", "pandas",
    "matplotlib", "seaborn", "papermill", "ipykernel",
)  # fmt: skip

# No telemetry, no advice, no account.
QUIET_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "WANDB_DISABLED": "true",
    "DO_NOT_TRACK": "1",
}

# One thread and fixed hashing make bytes repeatable.
REPEATABLE_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONUNBUFFERED": "1",
}

OFFLINE = {"HF_HUB_OFFLINE": "1"}  # for profiles that need no download
