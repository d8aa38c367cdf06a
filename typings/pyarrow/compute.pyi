"""Arrow makes these functions from its registry when the module is imported, where a type checker cannot see them."""

from typing import Any

def __getattr__(name: str) -> Any: ...
