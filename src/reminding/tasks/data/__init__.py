"""Files on disk: published data sets with their checksums, downloads, and readers of each format.

Only `download` may use the network. This room knows no task.
May import: `checks`, `disk`.
"""
