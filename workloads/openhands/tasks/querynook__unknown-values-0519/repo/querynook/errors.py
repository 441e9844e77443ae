"""The one error that queries raise."""


class QueryError(ValueError):
    """A query that cannot be understood or carried out."""
