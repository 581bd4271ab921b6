"""Times: how texts write them, the usual interval of a column, how it is said, and the times that follow by it.

May import: nothing of the package.
"""
