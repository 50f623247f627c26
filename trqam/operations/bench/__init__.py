"""`trqam bench`: how fast updates, evaluation and several processes are on this machine, beside what is asked for.

`options` and `command` are the command line's; `cases` says what is measured, `measure` how, `record` what is saved,
`targets` and `tables` what is read out of it.
"""
