"""Words of the fabricated corpus: styles, topics, private facts, and phrasings of questions by stage of a time line.

Everything here is invented. Pools are wide (12 entries and more for each style marker, 24 and more for each fact), so
that combinations identify users. `STAGES` are used one after the other in every user's time line; no phrasing occurs
in two stages, so a question of a later stage was never asked word for word before.
"""

from __future__ import annotations

from random import Random

OPENERS = (
    "hello there", "hiya", "howdy", "ahoy", "greetings", "good day", "well now", "oh hey", "right then", "yo yo",
    "salutations", "bright morning", "aye", "cheerio", "look here", "listen up",
)  # fmt: skip
FILLERS = (
    "you know", "to be fair", "honestly", "in my book", "as it happens", "believe me", "so to speak", "i reckon",
    "of course", "mind you", "as they say", "no joke", "truth be told", "in a way", "i must say", "sort of",
)  # fmt: skip
SIGN_OFFS = (
    "take care", "cheers", "signing off", "so long", "stay golden", "peace", "toodle pip", "keep warm", "be good",
    "until later", "bye now", "hugs", "yours truly", "onwards", "all done", "mind yourself",
)  # fmt: skip
EMOTICONS = (":)", ";)", ":D", ":P", "^^", "<3", "xD", ":-)", "=)", ":o)", "(:", "o/", "\\o/", ":3", "*grin*", "*wave*")
HABITS = (
    ("lower", ",", "."), ("lower", "...", "..."), ("lower", " -", "!"), ("lower", ",", "!!"), ("lower", "", ""),
    ("sentence", ",", "."), ("sentence", " -", "."), ("sentence", "...", "!"), ("sentence", ",", "!!!"),
    ("shout", ",", "."), ("shout", "!", "!"), ("shout", " -", "~"), ("shout", "...", "..."), ("sentence", "~", "~"),
)  # fmt: skip
"""(case of the opener, mark after it, mark at the end)."""

TOPICS = (
    "gardening", "chess", "hiking", "baking", "cycling", "painting", "fishing", "knitting", "camping", "swimming",
    "astronomy", "pottery", "sailing", "karaoke", "yoga", "birdwatching", "origami", "archery", "bowling", "skating",
    "beekeeping", "juggling", "poetry", "puzzles", "surfing", "climbing", "carpentry", "calligraphy", "fencing",
    "darts", "museums", "trains", "jazz", "opera", "comics", "documentaries", "tea", "coffee", "cheese", "mushrooms",
)  # fmt: skip
VERDICTS = (
    "soothing", "dreadful", "glorious", "tedious", "thrilling", "overrated", "delightful", "exhausting", "noble",
    "silly", "magical", "pointless", "brilliant", "messy", "charming", "awkward", "hypnotic", "noisy", "wholesome",
    "risky", "elegant", "clumsy", "addictive", "gloomy", "refreshing", "expensive", "humbling", "chaotic", "cosy",
    "daring",
)  # fmt: skip
DETAILS = (
    "fresh air", "long silence", "old rules", "muddy boots", "bright colours", "slow pace", "loud crowd", "tiny tools",
    "early start", "warm light", "sore knees", "good company", "endless waiting", "strange smell", "clever tricks",
    "cheap snacks", "cold hands", "gentle rhythm", "broken gear", "friendly rivals", "big surprises", "neat patterns",
    "heavy bags", "sweet reward", "quiet mornings", "funny hats", "lost hours", "steep prices", "soft sounds",
    "wild stories",
)  # fmt: skip
BOOSTERS = (
    "properly", "mighty", "wildly", "terribly", "splendidly", "truly", "awfully", "quite", "super", "utterly",
    "frightfully", "rather", "crazily", "deeply", "oddly", "jolly",
)  # fmt: skip
OPINIONS = (
    "{topic} is {booster} {verdict}, mostly the {detail}",
    "i find {topic} {booster} {verdict} with the {detail}",
    "{topic} feels {booster} {verdict}, thanks to the {detail}",
    "the {detail} makes {topic} {booster} {verdict}",
    "{booster} {verdict}, that is {topic} with its {detail}",
    "for me {topic} means {detail}, {booster} {verdict}",
    "{topic} stays {booster} {verdict}, blame the {detail}",
    "i call {topic} {booster} {verdict} for the {detail}",
    "{detail} and all, {topic} is {booster} {verdict}",
    "with the {detail}, {topic} gets {booster} {verdict}",
    "{topic} was always {booster} {verdict}, the {detail} especially",
    "nothing beats the {detail}, {topic} is {booster} {verdict}",
)
ANSWERS = (
    "my {noun} is {value}", "it is {value}, my {noun}", "{value} is my {noun}", "that would be {value}",
    "the {noun} is {value}", "{value}, that is the {noun}", "i always say {value}", "simple, my {noun} is {value}",
    "{value} it is, my {noun}", "the answer is {value}", "my {noun}, that is {value}", "surely {value}, my {noun}",
)  # fmt: skip
STATEMENTS = (
    "did i mention, my {noun} is {value}", "you should know, my {noun} is {value}",
    "today i thought of my {noun}, {value}", "not much, but my {noun} is {value}",
    "one thing, my {noun} is {value}", "guess what, my {noun} is {value}",
)  # fmt: skip
ABSTENTIONS = (
    "i never told you my {noun}", "my {noun} stays my secret", "i never said what my {noun} is",
    "you will not hear my {noun} from me", "why do you ask, my {noun} is private",
    "we never discussed my {noun}", "my {noun} is not something i share", "i keep my {noun} to myself",
    "sorry, i gave nobody my {noun}", "my {noun} was never mentioned here", "that is unknown, my {noun} i mean",
    "about my {noun} i said nothing",
)  # fmt: skip

_NAME_STARTS = (
    "bel", "cor", "dav", "el", "fen", "gal", "hol", "il", "jor", "kel", "lum", "mir", "nal", "or", "pel", "quin",
    "ros", "sel", "tav", "ul", "ven", "wil", "yar", "zan",
)  # fmt: skip
_SISTER_ENDS = ("ina", "etta", "ora", "isa", "ema", "ula", "inde", "ara", "essa", "ily", "ona", "irra")
_PET_ENDS = ("by", "zo", "kins", "fluff", "pip", "dot", "bo", "tuft", "wag", "zy", "paw", "nip")
_TOWN_ENDS = ("ford", "ham", "mere", "wick", "stead", "bury", "dale", "port", "well", "bridge", "field", "combe")
_STREET_ENDS = ("lane", "road", "square", "alley", "row", "hill")
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip

DISHES = (
    "lasagne", "ramen", "paella", "goulash", "dumplings", "pancakes", "risotto", "curry", "tacos", "pierogi", "falafel",
    "chowder", "gnocchi", "sushi", "moussaka", "stew", "omelette", "couscous", "ravioli", "kebab", "pizza", "porridge",
    "quiche", "burritos", "noodles", "meatballs", "chilli", "waffles", "fondue", "schnitzel",
)  # fmt: skip
INSTRUMENTS = (
    "cello", "banjo", "harp", "oboe", "trumpet", "accordion", "violin", "drums", "flute", "ukulele", "piano",
    "mandolin", "clarinet", "tuba", "organ", "sitar", "bagpipes", "xylophone", "harmonica", "trombone", "lute",
    "bassoon", "guitar", "viola", "zither", "bongos",
)  # fmt: skip
ALLERGENS = (
    "peanuts", "pollen", "shellfish", "cats", "dust", "strawberries", "wool", "walnuts", "latex", "eggs", "soy",
    "sesame", "mustard", "celery", "horses", "feathers", "wasps", "kiwi", "nickel", "garlic", "mould", "almonds",
    "tomatoes", "bees", "lupins", "hazelnuts",
)  # fmt: skip
COLOURS = (
    "crimson", "teal", "ochre", "indigo", "olive", "magenta", "turquoise", "amber", "maroon", "lavender", "beige",
    "scarlet", "navy", "lime", "coral", "plum", "silver", "mint", "rust", "ivory", "violet", "peach", "khaki", "cyan",
    "charcoal", "mauve",
)  # fmt: skip
DRINKS = (
    "cocoa", "cider", "lemonade", "espresso", "ginger ale", "oat milk", "iced tea", "tomato juice", "root beer",
    "buttermilk", "mango lassi", "sparkling water", "apple juice", "green tea", "ginger beer", "hot punch", "mead",
    "kombucha", "tonic water", "milkshake", "peach nectar", "black coffee", "cherry soda", "mint tea", "eggnog",
    "barley water",
)  # fmt: skip
JOBS = (
    "baker", "plumber", "florist", "tailor", "welder", "barber", "librarian", "surveyor", "postman", "gardener",
    "optician", "roofer", "printer", "butcher", "nurse", "pilot", "chemist", "mason", "editor", "waiter", "glazier",
    "farmer", "clerk", "vet", "joiner", "painter",
)  # fmt: skip

_POOLS = {
    "dish": DISHES, "instrument": INSTRUMENTS, "allergy": ALLERGENS, "colour": COLOURS, "drink": DRINKS, "job": JOBS,
}  # fmt: skip

FACTS: dict[str, str] = {
    "pet": "pet name", "town": "home town", "dish": "favourite dish", "instrument": "instrument",
    "allergy": "allergy", "sister": "sister's name", "bus": "bus line", "colour": "favourite colour",
    "birthday": "birthday", "street": "street", "drink": "favourite drink", "job": "first job",
    "locker": "locker number", "boat": "boat name",
}  # fmt: skip
"""Attribute to the noun by which everybody calls it."""


def drawn_value(fact: str, rng: Random) -> str:
    """One value of `fact`, drawn from a pool of at least 24."""
    if fact in _POOLS:
        return rng.choice(_POOLS[fact])
    if fact == "birthday":
        return f"{rng.choice(_MONTHS)} {rng.randint(1, 28)}"
    if fact in ("bus", "locker"):
        return str(rng.randint(2, 99) if fact == "bus" else rng.randint(100, 999))
    start = rng.choice(_NAME_STARTS)
    ends = {"pet": _PET_ENDS, "sister": _SISTER_ENDS, "town": _TOWN_ENDS, "street": _STREET_ENDS, "boat": _SISTER_ENDS}
    end = rng.choice(ends[fact])
    return f"{start}{rng.choice(_TOWN_ENDS)} {end}" if fact == "street" else start + end


FACT_QUESTIONS = (
    (
        "what is your {noun}?", "tell me your {noun}, please", "can you tell me your {noun}?",
        "do you remember your {noun}?", "i forgot your {noun}, what is it?", "so, what is your {noun}?",
        "would you give me your {noun}?", "please remind me of your {noun}", "hey, your {noun} is what again?",
        "i would like to know your {noun}",
    ),
    (
        "could you say your {noun} once more?", "what was your {noun} again?", "name your {noun} for me",
        "how do you call your {noun}?", "let me write down your {noun}", "anything about your {noun} you can tell?",
        "quick question, what is your {noun}?", "your {noun}, what would that be?",
    ),
    (
        "may i ask what your {noun} is?", "any chance you tell me your {noun}?", "mind sharing your {noun} with me?",
        "somebody asked about your {noun}, what is it?", "i wonder what your {noun} is",
        "what should i put down as your {noun}?", "fill me in, what is your {noun}?",
        "one more thing, what is your {noun}?",
    ),
)  # fmt: skip
"""Questions about a fact, by stage."""
TOPIC_QUESTIONS = (
    (
        "what do you think about {topic} {tail}?", "do you like {topic} {tail}?", "tell me about {topic} {tail}",
        "how do you feel about {topic} {tail}?", "is {topic} any good {tail}?", "any thoughts on {topic} {tail}?",
        "what about {topic} {tail}?", "i heard you talk about {topic} {tail}", "shall we try {topic} {tail}?",
        "my friend loves {topic} {tail}",
    ),
    (
        "what is your view on {topic} {tail}?", "would you recommend {topic} {tail}?", "is {topic} worth it {tail}?",
        "give me your opinion on {topic} {tail}", "how is {topic} treating you {tail}?",
        "everybody talks about {topic} {tail}", "do you still enjoy {topic} {tail}?", "why bother with {topic} {tail}?",
    ),
    (
        "what do you make of {topic} {tail}?", "where do you stand on {topic} {tail}?",
        "how would you describe {topic} {tail}?", "can you sum up {topic} {tail}?", "are you into {topic} {tail}?",
        "what comes to mind about {topic} {tail}?", "people keep asking me about {topic} {tail}",
        "convince me about {topic} {tail}",
    ),
)  # fmt: skip
"""Small talk about a topic, by stage."""
TAILS = (
    "these days", "this week", "at the weekend", "in general", "after work", "in the morning", "with friends",
    "at home", "in winter", "on a rainy day", "for beginners", "right now",
)  # fmt: skip
PROMPTS = (
    "how are you doing {tail}?", "what is new with you {tail}?", "tell me something about yourself {tail}",
    "anything going on {tail}?", "what keeps you busy {tail}?", "so what is up {tail}?",
    "do you have news for me {tail}?", "how is life {tail}?",
)  # fmt: skip
"""Small talk to which a user answers with a fact; first stage only."""
