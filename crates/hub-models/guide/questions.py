"""Questions and conversations out of the corpus files, endlessly and reproducibly.

A line of a fact's `ask` is a pattern: `[a|b|]` picks one of the parts (the last may be empty), `{slot}` picks from the
slot of that name, and both may stand inside a part. A drawn question is then worn the way people type: greetings,
lower case, missing question marks, Vietnamese without its marks, a word left out, a letter mistyped.
"""

import functools
import json
import random
import re
import tomllib
import unicodedata
from pathlib import Path

HERE = Path(__file__).parent
LANGUAGES = ("en", "vi")

# Two questions whose sets of words overlap by this share (Jaccard) count as the same question.
NEAR_DUPLICATE = 0.85

SYSTEM_PROMPTS = [
    "You are a helpful assistant.",
    "You are hub-guide. Answer questions about AI Backend Hub.",
    "You are a helpful, honest and concise assistant.",
    "Answer briefly.",
    "Be polite and short.",
    "Bạn là trợ lý hữu ích.",
    "Trả lời ngắn gọn.",
    "You are an expert in software. Help the user.",
]


class Language:
    """One corpus file."""

    def __init__(self, name):
        corpus = tomllib.loads((HERE / "corpus" / f"{name}.toml").read_text(encoding="utf-8"))
        self.name = name
        self.slots = corpus["slots"]
        self.opening, self.closing = corpus["opening"], corpus["closing"]
        self.follow_up, self.other_language = corpus["follow_up"], corpus["other_language"]
        self.facts = {fact["id"]: fact for fact in corpus["fact"]}
        for fact in self.facts.values():
            fact["ask"] = [line for line in fact["ask"].splitlines() if line]
            fact["weights"] = [min(variety(line, self.slots), 40) ** 0.5 for line in fact["ask"]]


def variety(pattern, slots):
    """Counts, roughly, how many questions a pattern stands for."""
    total = 1
    for part in re.findall(r"\[([^\[\]]*)\]", pattern):
        total *= part.count("|") + 1
    for slot in re.findall(r"\{(\w+)\}", pattern):
        total *= len(slots[slot])
    return total


def expand(pattern, slots, rng):
    """Draws one question of a pattern."""
    while True:
        inner = re.search(r"\{(\w+)\}|\[([^\[\]{}]*)\]", pattern)
        if not inner:
            return re.sub(r"\s+", " ", pattern).strip()
        picked = rng.choice(slots[inner[1]] if inner[1] else inner[2].split("|"))
        pattern = pattern[: inner.start()] + picked + pattern[inner.end() :]


def without_marks(text):
    """Writes Vietnamese the way it is typed on a keyboard without its marks."""
    decomposed = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D"))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def mistype(text, rng):
    """Doubles, drops, swaps or replaces one letter."""
    at = rng.randrange(len(text))
    if not text[at].isalpha():
        return text
    kind = rng.randrange(4)
    if kind == 0:
        return text[:at] + text[at] + text[at:]
    if kind == 1:
        return text[:at] + text[at + 1 :]
    if kind == 2 and at + 1 < len(text):
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + rng.choice("abcdefghiklmnopqrstuvwxy") + text[at + 1 :]


def wear(question, language, rng, is_first=True, is_plain=False):
    """Changes a question the way people type it, meaning kept."""
    if not is_plain:
        words = question.split()
        if len(words) > 4 and rng.random() < 0.12:
            words.pop(rng.randrange(len(words)))
            question = " ".join(words)
        if rng.random() < 0.22:
            question = rng.choice(language.opening if is_first else language.follow_up) + question
        if rng.random() < 0.6:
            question += rng.choice(language.closing)
    roll = rng.random()
    if roll < 0.5:
        question = question[:1].upper() + question[1:]
    elif roll < 0.75:
        question = question.lower()
    if language.name == "vi":
        if rng.random() < 0.22:
            question = without_marks(question)
        # Both ways to place the tone are taught at school.
        for one, other in (("oá", "óa"), ("oà", "òa"), ("oả", "ỏa"), ("uỷ", "ủy")):
            if rng.random() < 0.3:
                question = question.replace(one, other)
    while question and rng.random() < 0.1:
        question = mistype(question, rng)
    return question.strip() or "?"


def ask(fact, language, rng, is_first=True):
    """Draws a question for a fact; one that comes out like a held-out question is thrown away."""
    while True:
        pattern = rng.choices(fact["ask"], fact["weights"])[0]
        question = wear(expand(pattern, language.slots, rng), language, rng, is_first, fact.get("plain", False))
        if not twin(question):
            return question


def conversation(languages, rng):
    """Draws a conversation: a list of messages, each a role and a text."""
    language = rng.choice(languages)
    roll = rng.random()
    # A few conversations are long, so that late positions are seen.
    turns = 1 if roll < 0.72 else 2 if roll < 0.88 else rng.randint(3, 6) if roll < 0.992 else rng.randint(7, 13)
    messages = []
    if rng.random() < 0.12:
        messages.append(("system", rng.choice(SYSTEM_PROMPTS)))
    ids = list(language.facts)
    weights = [4 if fact == "off_topic" else 1 for fact in ids]
    for turn in range(turns):
        if turn and rng.random() < 0.1:
            language = rng.choice(languages)
        if turn and rng.random() < 0.15:
            question = wear(rng.choice(language.other_language), language, rng, is_plain=True)
            language = next(other for other in languages if other is not language)
        else:
            fact_id = rng.choices(ids, weights)[0]
            question = ask(language.facts[fact_id], language, rng, is_first=turn == 0)
        messages += [("user", question), ("assistant", language.facts[fact_id]["answer"])]
    return messages


def words(question):
    """Splits a question for comparison: no case, no marks, no punctuation."""
    return frozenset(re.findall(r"\w+", without_marks(question.lower())))


def held_out():
    """Reads the questions that training must not see."""
    lines = (HERE / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@functools.cache
def held_out_words():
    return [(item["question"], words(item["question"])) for item in held_out()]


def twin(question):
    """Returns the held-out question that is nearly the same, if there is one."""
    drawn = words(question)
    for held, own in held_out_words():
        if len(drawn & own) >= NEAR_DUPLICATE * len(drawn | own) > 0:
            return held
    return None


def seen_in_training(conversations):
    """Pairs each held-out question with a training question that is nearly the same, if there is one."""
    asked = {text for messages in conversations for role, text in messages if role == "user"}
    return {held: text for text in asked if (held := twin(text))}


def holds_fact(answer, must_contain):
    """Every entry is in the answer, whatever its case; an entry may list alternatives, separated by `|`."""
    answer = answer.lower()
    return all(any(fact.strip().lower() in answer for fact in entry.split("|")) for entry in must_contain)
