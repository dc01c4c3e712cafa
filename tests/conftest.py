"""What tests of several rooms share."""

import pytest
import torch

from tests.tiny import tiny


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny matrices are slower on many threads, and parallel tests would fight for the cores."""
    torch.set_num_threads(1)


@pytest.fixture
def story():
    """(model, tokenizer) of the story vocabulary, random weights, fresh for each test."""
    return tiny("story")


@pytest.fixture
def chat():
    """(model, tokenizer) that takes any text."""
    return tiny("bytes")
