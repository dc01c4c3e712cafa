"""`rlvr` on a machine that holds nothing apart: its kernel refuses namespaces and Landlock, as many do.

python tests/sandbox/bare.py ARGUMENT ...
"""

import errno
import struct
import sys

from rlvr.cli.app import main
from rlvr.sandbox import kernel

REFUSED = ("unshare", "landlock_create_ruleset")


def refuse(names):
    """Have every one of these calls fail, for this process and all that it starts."""
    numbers = [kernel.NUMBERS[name][kernel.MACHINES.index(kernel.machine())] for name in names]
    code = [(0x20, 0, 0, 0)]  # load the number
    code += [(0x15, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno.EPERM)]
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    instructions = bytearray(b"".join(struct.pack("<HBBI", *one) for one in code))
    kernel.loading_filter(instructions)()


if __name__ == "__main__":
    refuse(REFUSED)
    sys.argv[0] = "rlvr"
    main()
