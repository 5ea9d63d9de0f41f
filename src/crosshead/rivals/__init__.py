"""Rival attention mechanisms, all of one call shape: `(B, N, C), grid -> (B, N, C)`."""

from crosshead.rivals.registry import MECHANISMS as MECHANISMS
from crosshead.rivals.registry import attention_class as attention_class
