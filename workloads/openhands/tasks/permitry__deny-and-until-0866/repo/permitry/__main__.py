"""``python -m permitry POLICY USER ACTION PATH``: may they?"""

import sys
from pathlib import Path

from .errors import PolicyError
from .policy import Policy


def main(arguments, out):
    """Exit code 0 for yes, 1 for no, 2 if the question or the policy cannot be used."""
    if len(arguments) != 4:
        out.write("usage: permitry POLICY USER ACTION PATH\n")
        return 2
    file, user, action, path = arguments
    try:
        policy = Policy.read(Path(file).read_text(encoding="utf-8"))
        allowed = policy.may(user, action, path)
        out.write("%s\n" % ("yes" if allowed else "no"))
        return 0 if allowed else 1
    except (OSError, PolicyError, ValueError) as problem:
        out.write("%s\n" % problem)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
