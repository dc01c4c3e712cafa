"""Tokenizers made on the spot are like any other: complete, saved, loaded, chatted with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from rlvr.errors import RecipeError
from rlvr.problems.prompts import Renderer
from rlvr.problems.story import NAMES, VOCABULARY, Story
from rlvr.problems.vocabulary import END, UNKNOWN, make_tokenizer

CHAT = [
    {"role": "system", "content": "Ana has 6"},
    {"role": "user", "content": "How many does Ana have?"},
    {"role": "assistant", "content": "6"},
]


@pytest.fixture(scope="module", params=["made", "reloaded"])
def story(request, tmp_path_factory):
    return reloaded("story", tmp_path_factory) if request.param == "reloaded" else make_tokenizer("story")


@pytest.fixture(scope="module", params=["made", "reloaded"])
def raw(request, tmp_path_factory):
    return reloaded("bytes", tmp_path_factory) if request.param == "reloaded" else make_tokenizer("bytes")


def reloaded(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)
    make_tokenizer(name).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_every_story_and_solution_is_in_the_vocabulary(story):
    for index in range(300):
        for worked in Story(split="train", seed=index % 3, longest=6, distractors=2).worked(index):
            for text in (worked.problem.messages[0].content, worked.solution):
                ids = story.encode(text, add_special_tokens=False)
                assert story.unk_token_id not in ids
                assert story.decode(ids) == text


def test_the_story_vocabulary_is_its_phrases_and_one_token_each(story):
    assert len(story) == len(set(VOCABULARY)) + 6
    assert len(VOCABULARY) == len(set(VOCABULARY))
    for phrase in VOCABULARY:
        assert len(story.encode(phrase, add_special_tokens=False)) == 1
    assert story.encode("Ana has 16", add_special_tokens=False) == [
        story.convert_tokens_to_ids(piece) for piece in ("Ana", " has ", "1", "6")
    ]
    assert set(NAMES) <= set(story.get_vocab())


def test_foreign_text_is_unknown_in_a_story(story):
    assert story.unk_token_id in story.encode("Zoë has 3", add_special_tokens=False)
    assert story.unk_token == UNKNOWN


@given(text=st.text())
def test_bytes_take_any_text_and_give_it_back(raw, text):
    if any(special in text for special in raw.all_special_tokens):
        return
    ids = raw.encode(text, add_special_tokens=False)
    assert len(ids) == len(text.encode())
    assert raw.unk_token_id not in ids
    assert raw.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("name", ["story", "bytes"])
def test_the_chat_template_marks_turns(name, story, raw):
    tokenizer = story if name == "story" else raw
    said = tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert said == ("<|system|>Ana has 6<|end|><|user|>How many does Ana have?<|end|><|assistant|>6<|end|>")
    opened = tokenizer.apply_chat_template(CHAT[:2], tokenize=False, add_generation_prompt=True)
    assert opened.endswith("<|end|><|assistant|>")
    ids = tokenizer.encode(opened, add_special_tokens=False)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == opened
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<|assistant|>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Ana has 6How many does Ana have?"


def test_the_end_of_the_turn_ends_completions(story):
    assert story.eos_token == END
    assert Renderer(story, 64).end_id == story.eos_token_id
    assert story.pad_token_id not in (None, story.eos_token_id)


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(RecipeError, match="did you mean `story`"):
        make_tokenizer("storry")
