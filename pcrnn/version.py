"""The version of the package, and those of what it runs on."""

from functools import cache

__version__ = "0.1.0"


@cache
def versions() -> dict[str, str]:
    """What a result may depend on besides the settings."""
    import importlib.metadata  # here, so that importing the package does not wait for it
    import platform

    return {
        "pcrnn": __version__,
        "torch": importlib.metadata.version("torch"),
        "numpy": importlib.metadata.version("numpy"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
