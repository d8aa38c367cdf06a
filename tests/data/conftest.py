"""Property tests write thousands of small files; whether they reach the disk is not what they are about."""

import os

import pytest


@pytest.fixture(autouse=True, scope="package")
def no_flush():
    """`os.fsync` without its wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
