"""From a question to chat turns, and from chat turns to tokens.  The one place of the chat template."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from rlvr.errors import ModelError, ProblemsError, near_miss
from rlvr.types import Message, Problem, Worked

PROMPTS = {
    "plain": "{question}",
    "boxed": "{question}\nPlease reason step by step, and put your final answer within \\boxed{}.",
    "answer_tag": "{question}\nReason step by step inside <think> and </think>, "
    "then write the final answer alone between <answer> and </answer>.",
}
"""Prompts by name; `{question}` stands for the question."""

PROBE = "rlvr-probe"


def messages(question: str, prompt: str, system: str | None) -> tuple[Message, ...]:
    """The chat turns of a question; `prompt` is a name of PROMPTS or a text with `{question}` in it."""
    text = PROMPTS.get(prompt, prompt)
    if "{question}" not in text:
        raise ProblemsError(
            f"prompt `{prompt}`: neither a known prompt nor a text with {{question}} in it"
            f"{near_miss(prompt, PROMPTS)}"
        )
    user = Message(role="user", content=text.replace("{question}", question))
    return (Message(role="system", content=system), user) if system else (user,)


class Renderer:
    """Turns problems into tokens and tokens into text, with one tokenizer and one context length."""

    def __init__(self, tokenizer: Any, context: int, generation_config: Any = None) -> None:
        """`context` is in tokens; the ends in `generation_config.eos_token_id` stop a completion too.

        Raises ModelError if the tokenizer has no chat template or no end token.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                f"the tokenizer of `{_origin(tokenizer)}` has no chat template; use the -Instruct or -Chat "
                "model, or put a chat_template.jinja beside its tokenizer_config.json"
            )
        self.tokenizer = tokenizer
        self.context = context
        ends = [tokenizer.eos_token_id, getattr(generation_config, "eos_token_id", None)]
        flat = (i for end in ends for i in (end if isinstance(end, list | tuple) else [end]))
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(int(i) for i in flat if i is not None))
        if not self.stop_ids:
            raise ModelError(
                f"the tokenizer of `{_origin(tokenizer)}` has no end token, so no completion would end; "
                "set eos_token in its tokenizer_config.json"
            )

    def render(self, problem: Problem) -> tuple[int, ...]:
        """The prompt in tokens, up to and with the header of the assistant's turn."""
        ids = self._encode(self._apply(problem.messages, opens_turn=True))
        bos = self.tokenizer.bos_token_id
        if bos is not None and ids[:2] == (bos, bos):
            raise ModelError(
                f"the chat template of `{_origin(self.tokenizer)}` writes the start token twice; mend it"
            )
        return ids

    def fits(self, prompt_ids: Sequence[int], max_tokens: int) -> bool:
        """Whether the context has room for the prompt and `max_tokens` more."""
        return len(prompt_ids) + max_tokens <= self.context

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a completion, special tokens left out."""
        return texts(self.tokenizer, [ids])[0]

    def solution_ids(self, worked: Worked) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of the prompt, and of the solution with its end token."""
        return self.render(worked.problem), (*self._encode(worked.solution), self.end_id)

    @cached_property
    def end_id(self) -> int:
        """The token with which the chat template ends the assistant's turn, if it stops a completion."""
        turns = (Message(role="user", content="-"), Message(role="assistant", content=PROBE))
        after = self._apply(turns, opens_turn=False).rpartition(PROBE)[2]
        return next((i for i in self._encode(after) if i in self.stop_ids), self.stop_ids[0])

    def _apply(self, turns: Sequence[Message], *, opens_turn: bool) -> str:
        from jinja2.exceptions import TemplateError

        chat = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            return str(
                self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=opens_turn)
            )
        except (TemplateError, ValueError, TypeError) as error:
            roles = ", ".join(turn.role for turn in turns)
            raise ModelError(
                f"the chat template of `{_origin(self.tokenizer)}` refuses the turns [{roles}]: {error}"
            ) from error

    def _encode(self, text: str) -> tuple[int, ...]:
        # The template has written the start token, if the model wants one: adding it here would double it.
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))


def texts(tokenizer: Any, rows: Sequence[Sequence[int]]) -> list[str]:
    """The texts of token ids, special tokens left out."""
    from transformers import PreTrainedTokenizerFast

    # Of each token `tokenizer.decode` asks whether it is a number, which takes longer than all the rest.
    if getattr(type(tokenizer), "_decode", None) is PreTrainedTokenizerFast._decode:
        return [tokenizer.backend_tokenizer.decode(list(row), skip_special_tokens=True) for row in rows]
    how = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    return [str(tokenizer.decode(list(row), **how)) for row in rows]


def _origin(tokenizer: Any) -> str:
    return getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
