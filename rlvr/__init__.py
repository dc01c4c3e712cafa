"""Reinforcement learning with verifiable rewards.  A plugin needs `from rlvr import Verdict, verifier`."""

from rlvr.types import Verdict
from rlvr.verify.api import verifier

__version__ = "0.1.0"

__all__ = ["Verdict", "__version__", "verifier"]
