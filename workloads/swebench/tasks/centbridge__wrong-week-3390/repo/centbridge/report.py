"""Plain-text report of a reconciliation."""

from .money import format_money


def _describe(record):
    words = [record.date.isoformat(), format_money(record.amount)]
    words.extend(word for word in (record.reference, record.text) if word)
    return " ".join(words)


def _remarks(match):
    """What is not perfect about a match, in brackets; empty if nothing."""
    remarks = []
    if match.difference:
        remarks.append("difference " + format_money(match.difference, signed=True))
    if any(match.lags):
        remarks.append("days " + ", ".join("%+d" % lag if lag else "0" for lag in match.lags))
    return " [%s]" % "; ".join(remarks) if remarks else ""


def render_report(outcome):
    """Matches, open items on both sides and the net difference."""
    lines = ["Matched: %d" % len(outcome.matches)]
    for match in outcome.matches:
        numbers = "+".join(str(entry.number) for entry in match.entries)
        lines.append("  line %d = entry %s%s" % (match.line.number, numbers, _remarks(match)))
    for title, records in (("statement", outcome.open_lines), ("ledger", outcome.open_entries)):
        lines.append("Open on the %s: %d" % (title, len(records)))
        lines.extend("  %d: %s" % (record.number, _describe(record)) for record in records)
    lines.append("Net difference: " + format_money(outcome.net_difference, signed=True))
    return "\n".join(lines)
