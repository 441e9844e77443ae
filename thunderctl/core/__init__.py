"""The scheduler: programs, events, effects, policies, token ledgers. Pure: no I/O, no clock, no randomness.

``Scheduler.handle(event, now) -> effects`` is the one way in and the one way out. The daemon and every other body
drive the same brain; time comes in as an argument, in seconds of any monotonic clock.
"""
