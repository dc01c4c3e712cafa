import pytest

from rlvr.errors import ModelError, ProblemsError
from rlvr.problems.prompts import PROMPTS, Renderer, messages
from rlvr.problems.vocabulary import make_tokenizer
from rlvr.types import Message, Problem, Worked


def asked(*turns):
    return Problem(id="p", messages=tuple(Message(role=r, content=c) for r, c in turns), answer=1)


class Generation:
    eos_token_id = (5, 3)


def test_prompts_hold_the_question_and_its_braces():
    for name in PROMPTS:
        assert r"\frac{1}{2}?" in messages(r"\frac{1}{2}?", name, None)[-1].content
    assert messages("q", "boxed", None)[0].content.endswith(r"\boxed{}.")
    assert messages("{question}", "a {question}", "s") == (
        Message(role="system", content="s"),
        Message(role="user", content="a {question}"),
    )
    with pytest.raises(ProblemsError, match="did you mean `answer_tag`"):
        messages("q", "answertag", None)


def test_render_is_the_template_and_the_assistants_header():
    tokenizer = make_tokenizer("bytes")
    ids = Renderer(tokenizer, 64).render(asked(("user", "hé?")))
    assert tokenizer.decode(list(ids)) == "<|user|>hé?<|end|><|assistant|>"
    same = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hé?"}], add_generation_prompt=True, return_dict=False
    )
    assert list(ids) == same


def test_stop_ids_join_the_tokenizers_and_the_generation_configs():
    tokenizer = make_tokenizer("bytes")
    assert Renderer(tokenizer, 64).stop_ids == (tokenizer.eos_token_id,)
    assert Renderer(tokenizer, 64, Generation()).stop_ids == tuple(
        dict.fromkeys((tokenizer.eos_token_id, 5, 3))
    )


def test_decode_leaves_out_special_tokens_but_keeps_story_tags():
    tokenizer = make_tokenizer("story")
    renderer = Renderer(tokenizer, 64)
    worked = Worked(
        problem=asked(("user", "Ana has 6. How many does Ana have?")),
        solution="<think>Ana:6</think><answer>6",
    )
    prompt, completion = renderer.solution_ids(worked)
    assert completion[-1] == tokenizer.eos_token_id
    assert renderer.decode(completion) == "<think>Ana:6</think><answer>6"
    assert prompt == renderer.render(worked.problem)


def test_the_end_of_a_solution_is_the_templates_own():
    tokenizer = make_tokenizer("bytes")
    turn_end = tokenizer.convert_tokens_to_ids("<|system|>")
    tokenizer.chat_template = tokenizer.chat_template.replace("'<|end|>'", "'<|system|>'")

    class Ends:
        eos_token_id = turn_end

    assert Renderer(tokenizer, 64, Ends()).end_id == turn_end
    assert Renderer(tokenizer, 64).end_id == tokenizer.eos_token_id


def test_fits_counts_both_sides():
    renderer = Renderer(make_tokenizer("bytes"), 10)
    assert renderer.fits((1,) * 6, 4)
    assert not renderer.fits((1,) * 6, 5)


def test_tokenizers_that_cannot_serve_are_refused():
    tokenizer = make_tokenizer("bytes")
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match=r"no chat template; use the -Instruct"):
        Renderer(tokenizer, 64)
    tokenizer = make_tokenizer("bytes")
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end token"):
        Renderer(tokenizer, 64)


def test_a_template_that_refuses_the_system_role_is_quoted():
    tokenizer = make_tokenizer("bytes")
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}x"
    )
    with pytest.raises(ModelError, match=r"refuses the turns \[system, user\]: System role not supported"):
        Renderer(tokenizer, 64).render(asked(("system", "s"), ("user", "u")))
    tokenizer.chat_template = "{% if %}"
    with pytest.raises(ModelError, match="chat template"):
        Renderer(tokenizer, 64).render(asked(("user", "u")))


def test_a_doubled_start_token_is_refused_and_a_single_one_is_not_added_to():
    tokenizer = make_tokenizer("bytes")
    tokenizer.bos_token = "<|user|>"
    assert Renderer(tokenizer, 64).render(asked(("user", "u")))[0] == tokenizer.bos_token_id
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    with pytest.raises(ModelError, match="start token twice"):
        Renderer(tokenizer, 64).render(asked(("user", "u")))
