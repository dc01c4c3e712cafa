"""Where the final answer stands, by which rule, and where there is none."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rlvr_verifiers.extract import after_thinking, find_answer, last_boxed, said, tagged

BOXED = [
    (r"so $x = \boxed{5}$.", "5", "boxed"),
    (r"\fbox{5}", "5", "boxed"),
    (r"\boxed {5}", "5", "boxed"),
    (r"\boxed{ 5 }", "5", "boxed"),
    (r"\boxed{4}, no: \boxed{5}", "5", "boxed"),
    (r"\boxed{\frac{1}{2^{3}}}", r"\frac{1}{2^{3}}", "boxed"),
    (r"\boxed{\{1,2\}}", r"\{1,2\}", "boxed"),
    (r"\boxed{\left\{1, 2\right\}}", r"\left\{1, 2\right\}", "boxed"),
    (r"\boxed{\{1}", r"\{1", "boxed"),
    (r"\boxed{\left\{x\right.}", r"\left\{x\right.", "boxed"),
    (r"\boxed{\text{no solution}}", r"\text{no solution}", "boxed"),
    (r"\boxed{$5$}", "5", "boxed"),
    (r"\boxed{5.}", "5", "boxed"),
    (r"\boxed{1, 2, ...}", "1, 2, ...", "boxed"),
    (r"\boxed{\boxed{5}}", "5", "boxed"),
    (r"\fbox{ \boxed{5} }", "5", "boxed"),
    (r"\boxed{\boxed{5} + 1}", r"\boxed{5} + 1", "boxed"),
    (r"\boxed{5}}", "5", "boxed"),
    (r"{ \boxed{5}", "5", "boxed"),
    (r"\\boxed{5}", "5", "boxed"),
    (r"\\\boxed{5}", "5", "boxed"),
    (
        "\\boxed{\n\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}\n}.",
        r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
        "boxed",
    ),
    (r"$\boxed 5$", "5", "boxed"),
    (r"$\boxed-1.5$.", "-1.5", "boxed"),
    (r"\(\boxed C\)", "C", "boxed"),
    (r"write \boxed a lot: \boxed{3}", "3", "boxed"),
    (r"\boxed\boxed{5}", "5", "boxed"),
    (r"\boxed{4}, \boxed\frac12", None, "unclosed box"),
    (r"$\boxed 5, 6$", None, "unclosed box"),
    (r"$\boxed 5x$", None, "unclosed box"),
    (r"\boxed{}", None, "empty box"),
    (r"\boxed{ }", None, "empty box"),
    (r"\boxed{\boxed{}}", None, "empty box"),
    (r"\boxed{5}, \boxed{}", None, "empty box"),
    ("\\boxed{5}\nThe answer is 5.\n#### 5\n\\boxed{}", None, "empty box"),
    (r"\boxed{", None, "unclosed box"),
    (r"\boxed", None, "unclosed box"),
    (r"\boxed{5", None, "unclosed box"),
    (r"\boxed{{5}", None, "unclosed box"),
    (r"\boxed{5} and \boxed{4", None, "unclosed box"),
    (r"\boxed{5}. The answer is 5. \boxed{\frac{1}{", None, "unclosed box"),
    (r"\boxed{\boxed{5} + 1", None, "unclosed box"),
    ("$\\boxed{4$\n\nthat is, $\\boxed{5}$", "5", "boxed"),
    (r"\boxed{5} it is, and the answer is 6. #### 7 <answer>8</answer>", "5", "boxed"),
]

BOXES = [
    (r"\boxed{1}, \boxed{2}", "1, 2", "boxes"),
    (r"\boxed{1}\boxed{2}", "1, 2", "boxes"),
    (r"$\boxed{1}$ and $\boxed{2}$", "1, 2", "boxes"),
    (r"\(\boxed{1}\) or \(\boxed{2}\)", "1, 2", "boxes"),
    (r"$$\boxed{1} \quad \text{ and } \quad \boxed{2}$$", "1, 2", "boxes"),
    ("\\[\\boxed{1}\\]\n\n\\[\\boxed{2}\\]", "1, 2", "boxes"),
    ("- $\\boxed{1}$\n- $\\boxed{2}$", "1, 2", "boxes"),
    (r"$x = \boxed{1}$, $y = \boxed{2}$; $z_{10}=\boxed{3}$", "1, 2, 3", "boxes"),
    (r"$\alpha = \boxed{1}$ and $f(x) = \boxed{2}$", "1, 2", "boxes"),
    (r"\boxed{x = 1} \text{or} \boxed{x = 2}", "x = 1, x = 2", "boxes"),
    (r"\boxed{1}, \boxed{1}, \boxed{2}", "1, 1, 2", "boxes"),
    (r"\boxed{5} \boxed{5}", "5", "boxed"),
    (r"\boxed{}, \boxed{5}", "5", "boxed"),
    (r"\boxed{1} or rather \boxed{2}", "2", "boxed"),
    (r"\boxed{1} + \boxed{2}", "2", "boxed"),
    (r"\boxed{0}: wrong. $\boxed{1}$ and $\boxed{2}$", "1, 2", "boxes"),
]

MARKED = [
    ("<answer>5</answer>", "5", "tag"),
    ("<ANSWER>\n$5$\n</ANSWER> bye", "5", "tag"),
    ("<answer>4</answer> no <answer>5</answer>", "5", "tag"),
    ("<answer>x < 5</answer>", "x < 5", "tag"),
    ("<answer>The answer is 5.</answer>", "5", "tag"),
    ("the answer is 6 <answer>5</answer> #### 7", "5", "tag"),
    ("<answer> </answer>", None, "empty answer"),
    ("<answer>5", None, "unclosed tag"),
    ("<answer>5</answer><answer>6", None, "unclosed tag"),
    ("48 + 24 = 72\n#### 72", "72", "hashes"),
    ("#### 71\n#### 72 \nbye", "72", "hashes"),
    ("#### $\\frac{1}{2}$", r"\frac{1}{2}", "hashes"),
    ("so #### -1,234.", "-1,234", "hashes"),
    ("####\n72", "72", "hashes"),
    ("#### Paris", "Paris", "hashes"),
    ("#### Final Answer: 72", "72", "hashes"),
    ("#### 72\nThe answer is 71.", "72", "hashes"),
    ("#### Step 2\nfoo\n#### 3. Add\nThe answer is 6.", "6", "said"),
    ("#### Final Answer\n$$6$$", "6", "said"),
    ("#### Step 2\nso 7", None, "no marked answer"),
    ("##### 72", None, "no marked answer"),
    ("####", None, "empty answer"),
]

SAID = [
    ("The answer is 5.", "5"),
    ("So the final answer is: 5", "5"),
    ("Answer: 5", "5"),
    ("ANSWER = 5", "5"),
    ("answer：5。", "5"),
    ("**Answer:** 5", "5"),
    ("**Answer**: 5", "5"),
    ("**Answer: 5**", "5"),
    ("*Answer:* _5_", "5"),
    ("> **Final Answer:** **5**.", "5"),
    ("(Answer: 5)", "5"),
    ("(The answer is 5.)", "5"),
    (r"\textbf{Answer:} 5", "5"),
    (r"\text{Answer: } \frac{1}{2}", r"\frac{1}{2}"),
    (r"\text{Answer: 5}", "5"),
    (r"Answer $5$", "5"),
    (r"Answer \( 5 \)", "5"),
    ("the answer is `5`", "5"),
    ("Answer:\n```python\n5\n```", "5"),
    ("**Final Answer**\n5", "5"),
    ("**Final Answer**\r\n\r\n$$x + 1$$\r\n", "x + 1"),
    ("### Final Answer\n\n\\[ x = 5 \\]\nThat was it.", "x = 5"),
    ("The answer is:\n\n$$\n5\n$$", "5"),
    ("The answer is as follows:\n$$5$$", "5"),
    ("Final Answer:\nThe volume of the box is\n$120$.", "120"),
    ("The answer to part (b) is 7.", "7"),
    ("The answer for $n = 3$ is 7.", "7"),
    ("The answer (in cm) is 7.", "7"),
    ("The answer would be 7.", "7"),
    ("The answer is therefore 7.", "7"),
    ("The answer is 3.5.", "3.5"),
    ("The answer is 3.5, I think", "3.5"),
    ("The answer is 18. It was 17 before.", "18"),
    ("The answer is 5 because 2 + 3 = 5.", "5"),
    ("The answer is 5, which is prime.", "5"),
    ("The answer: D, it cannot be A.", "D"),
    ("The answer is $(0, 1)$. I hope it is correct.", "(0, 1)"),
    ("The answer is 5 I hope it is correct.", "5"),
    ("The answer is [0,1).", "[0,1)"),
    ("The answer is (0,1].", "(0,1]"),
    ("The answer is (C)", "(C)"),
    ("The correct answer is **(C)**.", "(C)"),
    ("The answer is 1,000 dollars.", "1,000 dollars"),
    ("The answer is 12 sq. cm.", "12 sq. cm"),
    ("The answer is $18.", "$18"),
    ("The answer is $18. She paid $5.", "$18"),
    (r"The answer is \$18. She paid \$5.", r"\$18"),
    ("The answer is $x=5$ or $x=6$.", "$x=5$ or $x=6$"),
    ("The answers are **5** and **6**.", "5 and 6"),
    ("The answer is 5 or 6.", "5 or 6"),
    ("The answer is 5, as well as 6.", "5, as well as 6"),
    ("The answer is (0, 5), not including 3.", "(0, 5), not including 3"),
    ("The answer is 4, but it could be 5.", "4, but it could be 5"),
    ("The answer is not 5.", "not 5"),
    ("The answer is 1, 2, ..., n.", "1, 2, ..., n"),
    ("The answer is x**2 + 1.", "x**2 + 1"),
    ("The answer is **x**(1/2)**.", "x**(1/2)"),
    ("The answer is 5! = 120.", "5! = 120"),
    (r"The answer is $a. b$. No.", "a. b"),
    (
        "The answer is \\begin{cases} a = 1. \\\\\n b = 2 \\end{cases}\nbye",
        "\\begin{cases} a = 1. \\\\\n b = 2 \\end{cases}",
    ),
    ("The answer is $$\\begin{pmatrix}1\\\\\n2\\end{pmatrix}.$$", "\\begin{pmatrix}1\\\\\n2\\end{pmatrix}"),
    ("The answer is 5. Wait, the answer is 6.", "6"),
    ("The answer is 5. So the answer is correct.", "5"),
    ("Final Answer: The final answer is 5.", "5"),
    ("Final Answer: The largest $n$ is 34.", "34"),
    ("Final Answer: Jane has 12 apples.", "12 apples"),
    ("Final Answer: There is no solution.", "no solution"),
    ("Final Answer: The length is 5 and the width is 3.", "The length is 5 and the width is 3"),
    ("Final Answer: None of them is 5.", "None of them is 5"),
    ("The answer is 7. **8** is too big.", "7"),
    ("So the solution set is $x > 5$.", "x > 5"),
    ("Thus the result is 5.", "5"),
    ("The answer is", None),
    ("The answer is 5. So the answer is", None),
    ("**Final Answer:**\n\n", None),
    (r"The answer is $\frac{1}{2", None),
    (r"The answer is \[ 5 ", None),
    (r"The answer is $$5", None),
    (r"The answer is \begin{pmatrix} 1", None),
    ("Answer:\n- 5\n- 6", None),
    ("Answer:\n1. x = 5\n2. y = 6", None),
    ("The result is 5.\nSo it is.", None),
    ("The answer is wrong.", None),
    ("We answered 5.", None),
]

BOLD = [
    ("So she has **12** apples.\n", "12"),
    ("**11** and **12**.", "11, 12"),
    ("**11** less, so **12**.", "12"),
    ("so **$\\frac{1}{2}$**", r"\frac{1}{2}"),
    ("The solution is **12**.", "12"),
    ("She has **12** apples.\n\nBye", None),
    ("**Total:** 12", None),
    ("2 ** 3 ** 4", None),
]

NONE = ["", "18", "$18$", "I found 18 apples", "2 + 2 = 4", "}}}", "\ud800\x00"]

THOUGHT = [
    (r"<think>\boxed{17}</think>\boxed{18}", "18", "boxed"),
    (r"\boxed{17}</think>\boxed{18}", "18", "boxed"),
    (r"<think>\boxed{18}</think>I give up", None, "no marked answer"),
    (r"\boxed{18} <think>hm</think> done", None, "no marked answer"),
    (r"<think>The answer is 18", None, "thinking never ended"),
    (r"<think>a</think>\boxed{18}<think>", None, "thinking never ended"),
    (r"<think>a</think>b</think>\boxed{18}", "18", "boxed"),
    (r"<thinking>\boxed{17}</thinking>\boxed{18}", "18", "boxed"),
    (r"<Reasoning>\boxed{18}</Reasoning>", None, "no marked answer"),
    ("<reasoning>17</reasoning><answer>18</answer>", "18", "tag"),
    (r"<thought>\boxed{18}", None, "thinking never ended"),
    (r"[THINK]\boxed{17}[/THINK]\boxed{18}", "18", "boxed"),
    (r"[THINK]\boxed{17}", None, "thinking never ended"),
    (r"◁think▷\boxed{17}◁/think▷\boxed{18}", "18", "boxed"),
    (r"<|begin_of_thought|>\boxed{18}", None, "thinking never ended"),
    (
        r"<|channel|>analysis<|message|>\boxed{17}<|end|><|start|>assistant<|channel|>final<|message|>\boxed{18}",
        "18",
        "boxed",
    ),
    (r"<|channel|>analysis<|message|>\boxed{18}<|end|>", None, "thinking never ended"),
]

DEBRIS = [
    ("The answer is 5<|im_end|>", "5"),
    ("The answer is 5 <|im_start|>user", "5"),
    ("The answer is 5</s>", "5"),
    ("The answer is 5<|end|>", "5"),
    ("The answer is 5<end_of_turn>\nThe answer is 6", "5"),
    ("<s>4</s> The answer is 5", "5"),
    (r"\boxed{5}<|im_end|><|im_start|>user\boxed{6}", "5"),
    (r"\boxed{5}<|eot_id|></think>\boxed{6}", "5"),
    (r"<|endoftext|>\boxed{5}", None),
    ("The answer is 5.\n\nQuestion: what?\nAnswer: 6", "5"),
    ("#### 5\n\nQ: what?\nA: #### 6", "5"),
    ("$\\boxed{5}$\n\nProblem:\nwhat?\n\n$\\boxed{6}$", "5"),
    ("The answer is 5\nUser: thanks, is the answer 6?\nThe answer is 6", "5"),
    ("Question: what?\nAnswer: 5", "5"),
    ("My answer: see below\nProblem: what?\n$\\boxed{5}$", "5"),
]

BOXED_ONLY = [
    ("The answer is 18. #### 18 <answer>18</answer> **18**", None, "no boxed answer"),
    ("18", None, "no boxed answer"),
    (r"\boxed{1} and \boxed{2}", "1, 2", "boxes"),
    (r"\boxed{}", None, "empty box"),
    (r"\boxed{1", None, "unclosed box"),
    ("<think>", None, "thinking never ended"),
]

PIECES = [
    *(r"\boxed{", r"\boxed ", r"\boxed{}", r"\boxed{5} and ", r"\boxed 5", "{", "}", "\\", "}{", r"\}\{"),
    *("**", "** ", "**a** ", "*", "_", "`", "```a\n", "####", "#### ", "####\n", "# ", "> ", "- "),
    *("answer is ", "answer is a.\n", "answer to ", "answer to     ", "answer (", "answer $1 "),
    *("answer\n", "answer:\n", "the result is ", "is ", "\nQ:", "\nQuestion: \\boxed{1}", "</s>"),
    *("<answer>", "</answer>", "<answer></answer>", "<", "<think>", "</think>", "\\quad", "a = "),
    *("$", "$$", "$1 ", r"\[", r"\(", r"\begin{", r"\end{", " ", "\n", "\t", "\n ", ". ", ".", ", "),
    *(", which", "  ,", r"\text{ and }", "\ud800", "\x00", "a", "é", "5"),
]


@pytest.mark.parametrize(("text", "found", "rule"), BOXED + BOXES + MARKED + THOUGHT)
def test_the_answer_and_its_rule(text, found, rule):
    answer = find_answer(text)
    assert (answer.text, answer.rule) == (found, rule)


@pytest.mark.parametrize(("text", "found", "rule"), BOXED_ONLY)
def test_boxes_alone(text, found, rule):
    answer = find_answer(text, boxed_only=True)
    assert (answer.text, answer.rule) == (found, rule)


@pytest.mark.parametrize(
    ("text", "found", "rule"),
    [(*row, "said") for row in SAID] + [(*row, "bold") for row in BOLD] + [(text, None, "") for text in NONE],
)
def test_words_and_bold(text, found, rule):
    answer = find_answer(text)
    assert answer.text == found
    assert found is None or answer.rule == rule


@pytest.mark.parametrize(("text", "found"), DEBRIS)
def test_what_follows_the_turn_is_cut(text, found):
    assert find_answer(text).text == found


@pytest.mark.parametrize("gold", ["18", r"\frac{1}{2}"])
@pytest.mark.parametrize(
    "place", ["Is it {}?", "<think>\\boxed{{{}}}</think>No.", "Known: $x = {}$.\n\nSo it is {}."]
)
def test_a_gold_that_is_only_mentioned_is_not_taken(gold, place):
    assert find_answer(place.format(gold, gold)).text is None


@pytest.mark.parametrize("before", ["", "the answer is ", "answer:\n", "#### ", "<answer>"])
@pytest.mark.parametrize("piece", PIECES)
def test_time_grows_with_the_length_only(piece, before):
    text = before + piece * (10**5 // len(piece))
    for after in ("", r"\boxed{6}", " answer: 6"):
        start = time.process_time()
        find_answer(text + after)
        assert time.process_time() - start < 1.5  # a backtracking regex takes minutes


@pytest.mark.parametrize("piece", [r"\boxed{", "**", "answer is ", "<answer>"])
def test_a_hundred_thousand_marks_are_read_at_once(piece):
    start = time.process_time()
    assert find_answer(piece * 10**5).text is None
    assert time.process_time() - start < 1


@pytest.mark.parametrize("piece", ["$", " ", "\n", "{", "#", "\\"])
@pytest.mark.parametrize("before", ["", "the answer is "])
def test_a_million_characters_are_read_at_once(piece, before):
    start = time.process_time()
    find_answer(before + piece * 10**6)
    assert time.process_time() - start < 1


def test_nesting_has_no_depth_limit():
    assert find_answer(r"\boxed{" * 10**5 + "5" + "}" * 10**5).text == "5"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30).map("".join))
def test_nothing_raises_and_an_answer_is_never_blank(text):
    for boxed_only in (False, True):
        found = find_answer(text, boxed_only=boxed_only)
        assert found.rule
        assert found.text is None or (found.text and found.text == found.text.strip())
    for part in (after_thinking, last_boxed, said, tagged):
        part(text)


@given(st.text(alphabet="ab1 {}\\$,", max_size=12))
def test_a_closed_box_gives_back_what_is_in_it(inside):
    plain = inside.replace("\\", "").replace("{", r"\{").replace("}", r"\}").replace("$", "").strip()
    found = find_answer(f"so \\boxed{{{plain}}} it is")
    assert (found.text, found.rule) == ((plain, "boxed") if plain else (None, "empty box"))


@pytest.mark.parametrize(
    ("text", "found"),
    [(r"\boxed{1}, \boxed{2}", "2"), (r"\boxed{1} and \boxed{2", None), (r"\boxed{}", ""), ("1", None)],
)
def test_the_last_box_alone(text, found):
    assert last_boxed(text) == found
