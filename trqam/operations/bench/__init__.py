"""`trqam bench`: how fast updates and two processes at once are on this machine, beside what is asked for.

`command` is the command line's; `cases` and `flops` say what is measured, `measure` in which order,
`record` what is saved, `tables` what is read out of it.
"""
