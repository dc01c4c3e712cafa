"""What tests ask of every engine, and how they read its answers."""

from rlvr.types import Message, Problem, Request

LENGTHS = (3, 40, 1, 17, 90, 5, 8, 70, 33)
THREE_EACH = (3,) * len(LENGTHS)


def prompt(index, length):
    """Ordinary tokens, another row for every index."""
    return tuple(6 + (index * 31 + place * 7 + place * place) % 40 for place in range(length))


def request(index, length, seeds):
    turn = (Message(role="user", content="?"),)
    problem = Problem(id=str(index), messages=turn, answer=0)
    return Request(problem=problem, prompt_ids=prompt(index, length), seeds=tuple(seeds))


def requests(group_sizes=THREE_EACH):
    rows = zip(LENGTHS, group_sizes, strict=True)
    return [request(i, length, range(1000 * i, 1000 * i + size)) for i, (length, size) in enumerate(rows)]


def generate(engine, asked, sampling):
    """The groups in the order of their requests; each index must come exactly once."""
    answered = list(engine.generate(asked, sampling))
    assert sorted(index for index, _ in answered) == list(range(len(asked)))
    for index, group in answered:
        assert (group.problem, group.prompt_ids) == (asked[index].problem, asked[index].prompt_ids)
        assert len(group.completions) == len(asked[index].seeds)
    return [group for _, group in sorted(answered, key=lambda pair: pair[0])]


def said(groups):
    """What was drawn, without log-probabilities, by problem."""
    return {g.problem.id: [(c.token_ids, c.finish, c.text) for c in g.completions] for g in groups}


def stops(tokenizer):
    """Enough different ends that a random model finds one about every ten tokens."""
    return (tokenizer.eos_token_id, 7, 12, 19, 30)
