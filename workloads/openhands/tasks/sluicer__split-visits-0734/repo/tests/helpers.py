from sluicer import Event, Pipeline


def run(windows, times, key="k", **options):
    """Results as ``(start, end, count)``, and the times that were late."""
    results, late = [], []
    pipe = Pipeline(windows, emit=results.append, on_late=late.append, **options)
    for number, at in enumerate(times):
        pipe.feed(Event(key, at, number))
    pipe.close()
    return [(r.start, r.end, r.count) for r in results], [event.at for event in late]
