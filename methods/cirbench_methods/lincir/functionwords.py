"""Words of English that are not keywords: the closed classes, and the verbs that captions use most."""

from __future__ import annotations

_DETERMINERS = "a an the this that these those some any each every no all both another"
DETERMINERS = frozenset(_DETERMINERS.split())
"""They belong to a keyword that follows them, as their tag does for spaCy."""

_PREPOSITIONS = """
about above across after against along alongside amid among around as at atop before behind below beneath beside besides
between beyond by down during for from in inside into like near next of off on onto out outside over past per through
throughout to toward towards under underneath until up upon via while with within without
"""
_CONJUNCTIONS = "and or but nor so yet if because although though whereas whether than then when where whereby"
_PRONOUNS = """
i me my mine you your yours he him his she her hers it its we us our ours they them their theirs who whom whose which
what himself herself itself themselves someone somebody something anyone anything everyone everything nobody nothing
there here one's other others
"""
_AUXILIARIES = """
am is are was were be been being do does did done have has had having can could may might must shall should will would
isn't aren't wasn't weren't don't doesn't didn't can't won't not
"""
_NUMBERS = "one two three four five six seven eight nine ten eleven twelve several many few much more most"
_ADVERBS = """
also very too just only even still together apart away back close far ahead again almost already always often well
partly partially mostly nearly side top left right front upside
"""
_VERBS = """
sits sitting sat stands standing stood lies lying lay laying walks walking rides riding holds holding held wears wearing
plays playing eats eating flies flying parked filled covered looks looking shows showing shown seen take takes taking
made make making put puts placed hanging hangs goes going get gets getting run runs running used using
"""

FUNCTION_WORDS = frozenset(
    " ".join((_PREPOSITIONS, _CONJUNCTIONS, _PRONOUNS, _AUXILIARIES, _NUMBERS, _ADVERBS, _VERBS)).split()
)
