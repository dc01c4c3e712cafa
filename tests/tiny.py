"""Models small enough to make in a test: made through the product, so that they are what a run works with."""

import torch

from rlvr.policy.model import make_model
from rlvr.problems.vocabulary import make_tokenizer
from rlvr.rollout.hf import HfEngine

SIZES = {
    "hidden_size": 32,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 16,
    "mlp_size": 48,
    "context": 256,
}


def tiny(vocabulary="story", *, seed=0, **sizes):
    """(model, tokenizer) with random weights, stirred so that what a token says depends on all before it."""
    tokenizer = make_tokenizer(vocabulary)
    model = make_model(tokenizer, **SIZES | sizes, seed=seed)
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            if weight.ndim == 2:
                weight.mul_(10)
    return model, tokenizer


def saved(folder, vocabulary="bytes", **sizes):
    """Such a model in a folder, as a user's own would be; the folder."""
    model, tokenizer = tiny(vocabulary, **sizes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def engine_of(model, tokenizer, *, slots=512, version=0):
    """The hf engine over the model."""

    def decode(rows):
        return tokenizer.batch_decode(rows, skip_special_tokens=True)

    return HfEngine(model, decode, pad_id=tokenizer.pad_token_id, slots=slots, version=version)
