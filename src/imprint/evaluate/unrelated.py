"""Text that has nothing to do with any user or corpus: what a memory should leave as it was. Written for this purpose.

A change here is a new version, and of the metric `drift` too.
"""

from __future__ import annotations

from imprint.base.examples import Interaction

UNRELATED_VERSION = "en-1"
AFTER_ALL = 1 << 40
"""A place in a history behind everything that is known of anybody."""

_TEXT = """
Why does bread rise? Yeast eats the sugar in the dough and breathes out gas, which the dough holds in bubbles.
What makes the tide come in? The moon pulls at the sea, and the land turns under the water that it has drawn up.
How is glass made? Sand is melted with soda and lime, and the clear liquid cools too quickly to form crystals.
Why do leaves turn red in autumn? The green fades first, and the colours that it covered all summer are left.
What does a keystone do? It is the last stone of an arch, and its weight locks all the others in their places.
How do bees find a field again? They remember the angle of the sun, and they show it to others by walking in a figure.
Why is ice slippery? A thin layer at its surface moves almost like water, even well below the freezing point.
What is a watershed? It is the line along a ridge where rain on one side flows to another sea than on the other.
How does a sundial tell the hour? The shadow of its rod moves over the marks as the sun crosses the sky.
Why do pipes burst in winter? Water needs more room when it freezes, and the metal around it cannot give way.
What holds a kite up? Wind is turned down by the slanted sail, and so it pushes the sail up against the string.
How old can a tree become? Some pines on dry mountains were seedlings before the first cities had walls.
Why does a bell ring so long? Bronze loses little of each swing to heat, so the rim keeps moving the air.
What is a tally stick? It is a notched piece of wood, split in two, with which both sides could prove a debt.
How do salmon find their river? They follow its smell, which they learned when they swam down to the sea.
Why are old maps brown? The paper was made with acid, and light and air have burned it slowly.
"""


def unrelated_rows(user_id: str = "") -> list[Interaction]:
    """The text as interactions, a question and its answer each, asked after everything that is known of a user."""
    found = []
    for place, line in enumerate(_TEXT.strip().splitlines()):
        query, _, response = line.partition("? ")
        name = f"unrelated-{UNRELATED_VERSION}-{place}"
        found.append(Interaction(user_id, name, f"{query}?", response, order=AFTER_ALL))
    return found
