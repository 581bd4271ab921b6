"""Files on disk: published data sets and their checksums, fetching them, and readers of each format.

One file here, `download`, may use the network. Knows no task.
May import: nothing else of the package.
"""
