"""The count of FLOPs against torch's own counter, which watches the products that really happen."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rlvr.policy.flops import Shape
from rlvr.policy.model import add_lora
from tests.tiny import tiny


def counted(model, prompt, length, *, learns=False):
    """FLOPs of a padded pass over one sequence, with attention over all T keys of T tokens."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.config._attn_implementation = "eager"
    with FlopCounterMode(display=False) as counter:
        hidden = base.get_decoder()(input_ids=torch.ones(1, prompt + length - 1, dtype=torch.long))
        said = base.get_output_embeddings()(hidden.last_hidden_state[:, -length:])
        if learns:
            said.sum().backward()
    return counter.get_total_flops()


def full_attention(model, tokens):
    """What the counter sees of scores and values: T x T keys a layer and head."""
    config = model.config
    return 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * tokens**2


def causal_attention(model, tokens):
    return full_attention(model, tokens) * (tokens + 1) / (2 * tokens)


@pytest.mark.parametrize("ties", [True, False])
def test_a_pass_needs_what_torch_counts_less_the_keys_that_nobody_sees(ties):
    model, _ = tiny()
    if not ties:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    shape, tokens = Shape.of(model), 20 + 9 - 1
    unseen = full_attention(model, tokens) - causal_attention(model, tokens)
    assert shape.forward(20, [9]) == counted(model, 20, 9) - unseen
    with torch.enable_grad():
        learned = counted(model, 20, 9, learns=True)
    assert shape.update(20, [9]) == 3 * shape.forward(20, [9])
    assert shape.update(20, [9]) == learned - 3 * unseen


def test_an_adapter_leaves_frozen_weights_without_their_gradient():
    model = add_lora(tiny()[0], rank=4, alpha=8.0, targets="all-linear", seed=0)
    shape, tokens = Shape.of(model), 28
    unseen = full_attention(model, tokens) - causal_attention(model, tokens)
    assert 0 < shape.trained < shape.weights
    assert not shape.head_trained
    with torch.enable_grad():
        learned = counted(model, 20, 9, learns=True)
    # The first layer's input asks for no gradient, so torch leaves a little of it out.
    assert shape.update(20, [9]) == pytest.approx(learned - 3 * unseen, rel=0.12)
    assert shape.update(20, [9]) < 3 * shape.forward(20, [9])


def test_a_prompt_counts_once_for_its_group_and_siblings_add_up():
    shape = Shape.of(tiny()[0])
    group, alone = shape.forward(50, [7, 3, 12]), [shape.forward(50, [length]) for length in (7, 3, 12)]
    prompt = 2 * shape.weights * 50 + 4 * shape.attention[0][0] * 50 * 51 / 2
    assert group == pytest.approx(sum(alone) - 2 * prompt)


def test_a_window_bounds_the_keys():
    model, _ = tiny()
    whole = Shape.of(model)
    model.config.layer_types = ["full_attention", "sliding_attention"]
    model.config.sliding_window = 10
    half = Shape.of(model)
    width = whole.attention[0][0] // 2
    assert half.attention == ((width, None), (width, 10))
    seen = sum(min(10, t) for t in range(1, 31))
    assert whole.forward(30, [1]) - half.forward(30, [1]) == 4 * width * (30 * 31 // 2 - seen)
    model.config.sliding_window = 1000
    assert Shape.of(model).forward(30, [5]) == whole.forward(30, [5])


def test_experts_are_not_guessed_at():
    model, _ = tiny()
    model.config.num_experts = 8
    assert Shape.of(model) is None
