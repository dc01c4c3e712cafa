"""What `pivots` and the guard of pivot words refuse."""

import pytest

from tests.recipe.test_check import HEAD, refused


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (
            "algorithm: {entropy: lp_reg_pivots}\npivots: {languages: []}",
            "a.yaml:4: `algorithm.entropy = lp_reg_pivots` has no word to protect; "
            "set pivots.languages to [en], or pivots.words",
        ),
        (
            "pivots: {languages: [eng]}",
            "a.yaml:3: `pivots.languages`: `eng` is no language with a list; did you mean `en`?",
        ),
        (
            'pivots: {words: [" "]}',
            "a.yaml:3: `pivots.words`: an empty word would be found everywhere; leave it out",
        ),
        (
            "algorithm: {entropy_when: alarms}",
            "a.yaml:3: `algorithm.entropy_when = alarms`: must be one of `always`, `alarm`, `below_start`; "
            "did you mean `alarm`?",
        ),
    ],
)
def test_refused(tmp_path, lines, fault):
    assert refused(tmp_path, f"{HEAD}{lines}\n") == [fault]
