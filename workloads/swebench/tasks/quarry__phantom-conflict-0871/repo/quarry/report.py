"""Plain-text rendering of a plan."""

from .order import install_order


def render_plan(plan):
    """One numbered line per release in install order, with who asked for it."""
    lines = []
    for number, release in enumerate(install_order(plan), 1):
        reasons = ", ".join("%s %s" % reason for reason in plan.why(release.name))
        lines.append("%d. %s (%s)" % (number, release, reasons))
    return "\n".join(lines)
