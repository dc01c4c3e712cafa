"""What joins the items of an answer, and what ends it."""

from __future__ import annotations

from rlvr_verifiers.math.cursor import Cursor


def is_over(cursor: Cursor) -> bool:
    """Whether what was opened ends here, or the text."""
    token = cursor.token
    if token.kind == "end":
        return True
    closing = token.kind == "sign" and token.value in ")]}&"
    return closing or (
        token.kind == "command"
        and (
            token.value in ("}", "mid", "\\", "rfloor", "rceil", "rvert", "rVert", "rangle")
            or token.value.startswith("end:")
        )
        and (cursor.depth > 0)
    )


def joint_of(cursor: Cursor) -> str:
    """The sign or word that joins two items, passed; empty where none stands."""
    token = cursor.token
    if token.kind == "sign" and token.value in (",", ";"):
        cursor.take()
        return token.value
    if token.kind == "command" and token.value in ("or", "and", "vee", "wedge", "lor", "land"):
        cursor.take()
        return {"vee": "or", "lor": "or", "wedge": "and", "land": "and"}.get(token.value, token.value)
    if token.kind == "command" and token.value == "\\" and cursor.depth == 0:
        cursor.take()
        return ","
    if token.kind in ("text", "word") and token.value.strip(" ,;.").lower() in (
        "and",
        "or",
        "",
        "&",
        "and also",
        "or else",
    ):
        cursor.take()
        return token.value.strip(" ,;.").split()[0].lower() if token.value.strip(" ,;.&") else ","
    return ""


def peeks_joint(cursor: Cursor) -> bool:
    """Whether a joint follows; it is not passed."""
    place = cursor.place
    is_joint = bool(joint_of(cursor))
    cursor.place = place
    return is_joint
