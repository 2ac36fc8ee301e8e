"""`dln explore`: a page on this machine where every movement of a slider trains an ensemble anew.

    controls -> Question -> configs -> answers, piece by piece -> frames of bytes -> the page
       page      question    training              frames            server, worker

What is trained is a config like any other: the page offers the command that gives the same numbers.
"""
