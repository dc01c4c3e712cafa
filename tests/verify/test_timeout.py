"""How long a check may take: the verifier says it, a command may say another."""

import pytest
from typer.testing import CliRunner

from rlvr.cli.verifier import app
from rlvr.errors import VerifierError

SLOW = '''from rlvr import verifier


@verifier(timeout_s=0.5)
def slow(completion: str, answer: str) -> bool:
    """Never ends."""
    while True:
        pass
'''


def test_a_check_has_the_time_that_its_verifier_says_unless_the_command_says_another(tmp_path):
    file = tmp_path / "slow.py"
    file.write_text(SLOW)
    asked = ["try", f"{file}:slow", "--completion", "a", "--answer", "b"]
    assert "gave no answer within 0.5 s" in CliRunner().invoke(app, asked).output
    assert "gave no answer within 0.25 s" in CliRunner().invoke(app, [*asked, "--timeout", "0.25"]).output
    for option, given in (("--timeout", "5 parsecs"), ("--timeout", "0"), ("--memory", "much")):
        refusal = CliRunner().invoke(app, [*asked, option, given]).exception
        assert isinstance(refusal, VerifierError)
        assert str(refusal).startswith(option)


def test_code_has_more_time_than_its_own_limits_take():
    from rlvr_verifiers.code import code

    assert code.timeout_s == 60
    assert code.timeout_s > 2 * 3 * code.options["cpu_s"].default


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5 s", True])
def test_a_timeout_is_a_number_of_seconds(seconds):
    from rlvr import verifier

    with pytest.raises(VerifierError, match=r"timeout_s = .* is no number of seconds"):

        @verifier(timeout_s=seconds)
        def never(completion: str) -> bool:
            """Never made."""
            return True
