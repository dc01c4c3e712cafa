"""Three doors, and a clear word at each that stays shut."""

import pytest

from rlvr.errors import VerifierError
from rlvr.verify.registry import available, resolve

PLUGIN = '''from rlvr import verifier

@verifier
def near(completion: str, answer: str, *, depth: int = 2) -> bool:
    """Right when near."""
    return completion == answer

@verifier
def far(completion: str) -> bool:
    return False

def plain(completion):
    return True
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on the import path with a plugin, registered by a distribution's metadata."""
    (tmp_path / "strangers_plugin.py").write_text(PLUGIN)
    info = tmp_path / "strangers_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[rlvr.verifiers]\nnearby = strangers_plugin:near\nlost = strangers_plugin:nobody\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_each_door_leads_to_the_verifier(folder):
    assert resolve("nearby").name == "near"
    assert resolve("strangers_plugin:far").name == "far"
    assert resolve("./strangers_plugin.py:near", folder)("a", "a") is True
    assert resolve(f"{folder}/strangers_plugin.py:near").options["depth"].default == 2


def test_available_lists_doc_and_options_and_shows_what_cannot_be_loaded(folder):
    listed = {listing.name: listing for listing in available()}
    assert listed["nearby"].doc == "Right when near."
    assert str(listed["nearby"].options["depth"]) == "int = 2"
    assert "no verifier `nobody`" in listed["lost"].fault


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("neerby", "did you mean `nearby`?"),
        ("strangers_plugin:neer", "did you mean `near`?"),
        ("strangers_plugin:xyz", "it holds far, near"),
        ("strangers_plugin:plain", "put `@verifier` above it"),
        ("strangers_plugin:", "no verifier `strangers_plugin:`"),
        ("no_such_module:v", "no module `no_such_module`"),
        ("strangers_plugin.deeper:v", "no module `strangers_plugin.deeper`"),
        ("not a module:v", "is no module name"),
        ("./strangers_plugin.py:neer", "did you mean `near`?"),
        ("./strangers_plugin.py", "say which function"),
        ("./strangers_plugn.py:near", "did you mean `strangers_plugin.py`?"),
        ("lost", "entry point strangers_plugin:nobody"),
    ],
)
def test_a_name_that_leads_nowhere_is_explained(folder, name, said):
    with pytest.raises(VerifierError) as error:
        resolve(name, folder)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef broken(:\n", "broken.py:2: invalid syntax"),
        ("x = 1\n\nx.nothing\n", "broken.py:3: AttributeError"),
        ("import sys\nsys.exit(1)\n", "broken.py:2: SystemExit"),
        ("import absent_module\n", "broken.py:1: ModuleNotFoundError"),
        (
            "from rlvr import verifier\n\n@verifier\ndef v(gold):\n    pass\n",
            "broken.py:3: verifier `v` asks for `gold`",
        ),
    ],
)
@pytest.mark.parametrize("door", ["./broken.py:v", "broken:v"])
def test_a_file_that_cannot_be_loaded_is_named_with_its_line(tmp_path, monkeypatch, text, said, door):
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(VerifierError) as error:
        resolve(door, tmp_path)
    assert said in str(error.value)
