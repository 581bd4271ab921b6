"""Pure tensor functions: the equations of the paper, and the ops that compute a whole layer at once.

`reference`, `scores` and `sparsify` are the definition, `contract` says what an op takes and returns, `backends` is
the table of ops and the choice among them.
May import: torch alone.
"""
