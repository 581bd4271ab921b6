"""Labelled series: UCR and .ts files, folders of audio files, what is held out, and arrays of equal length.

May import: `tasks.data`, `tasks.data.tables`.
"""
