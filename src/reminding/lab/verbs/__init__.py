"""The actions of the command line's verbs, with their output on the terminal: of one run, and of many.

May import: every other room of `lab`, `disk`, `reminding.nn`, `reminding.tasks`.
"""
