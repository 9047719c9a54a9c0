"""The fixtures of `attacked`, for all files here."""

from attacked import attacked, target

__all__ = ["attacked", "target"]
