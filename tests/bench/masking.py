"""What the shipped masks cost, hold back and mistake; `python tests/bench/masking.py`."""

import base64
import hashlib
import random
import statistics
import sys
import sysconfig
import timeit
import uuid
from collections import Counter
from functools import partial
from pathlib import Path
from time import process_time as clock

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.shipped import DEFAULT, frame_of, shipped, source, value_of

from gateway.masking.rule_set import RuleSet, rule_set
from gateway.masking.shown import show_hits
from gateway.masking.templates import keyed_tagger
from gateway.masking.text import TextMasker

ROOT = Path(__file__).parents[2]
TAGGER = keyed_tagger(lambda: b"key")
NAMES = tuple(sorted(source().masks))
SETS = {
    "default": shipped().find_rules(DEFAULT),
    "all but e-mail": shipped().find_rules(tuple(name for name in NAMES if name != "email")),
    "all": shipped().find_rules(NAMES),
}
LIBRARY = Path(sysconfig.get_paths()["stdlib"])
PROSE = (ROOT / "README.md").read_text()[:1024]
CODE = (LIBRARY / "argparse.py").read_text()[20_000:21_024]


def mask(rules: RuleSet, pieces: list[str]) -> list[int]:
    """Mask pieces; return how many characters were held after each."""
    masker = TextMasker(rules, TAGGER)
    held = []
    given = out = 0
    for piece in pieces:
        out += len(masker.feed(piece))
        given += len(piece)
        held.append(max(0, given - out))
    masker.finish()
    return held


def cost() -> None:
    """Print what 1 KB costs, whole and in deltas of a word, and what is held meanwhile."""
    print("| rules | text | 1 KB whole, µs | a delta of one word, µs | held: median, mean |")
    for name, chosen in SETS.items():
        rules = rule_set(chosen)
        for kind, text in (("prose", PROSE), ("code", CODE)):
            words = [f"{word} " for word in text.split(" ")]
            deltas = [text[:1], *(f" {word}" for word in text.split(" "))]
            whole = min(timeit.repeat(partial(rules.may_match, text), number=500)) / 500
            stream = min(timeit.repeat(partial(mask, rules, deltas), number=20)) / 20
            held = mask(rules, deltas)
            print(
                f"| {name} | {kind} | {whole * 1e6:.1f} | {stream / len(words) * 1e6:.1f} "
                f"| {statistics.median(held):.0f}, {statistics.mean(held):.2f} |"
            )


def linear() -> None:
    """Print the time of twice as much text in one-character deltas, as a ratio."""
    rules = rule_set(SETS["all"])
    samples = {
        "prose": PROSE,
        "runs": "a" * 1000 + " ",
        "beginnings": "eyJAKIAghp_sk-://-----BEGIN ",
        "addresses": "a@b.c@d.ef ",
        "digits": "4111 1111 1111 1112 GB29 ",
        "key without end": f"{value_of('private_key')[:60]}{'A' * 200}",
    }
    for name, sample in samples.items():
        text = sample * (200_000 // len(sample) + 1)
        times = []
        for size in (100_000, 200_000):
            started = clock()
            mask(rules, list(text[:size]))
            times.append(clock() - started)
        print(
            f"| {name} | {times[1] / times[0]:.2f} × for twice the text "
            f"| {times[1] / 200_000 * 1e6:.1f} µs per one-character delta |"
        )


def hostile(count: int = 10_000) -> None:
    """Print the slowest of many texts made to be looked at again and again, per KB."""
    rng = random.Random(1)
    rules = rule_set(SETS["all"])
    begins = sorted({word for rule in source().masks.values() for word in rule.get("begins", ())})
    values = [frame_of(name).format(value_of(name)) for name in NAMES]
    slowest = (0.0, "")
    total = 0.0
    for _ in range(count):
        part = "".join(
            rng.choice((*begins, *values, "@", "4", "a")) for _ in range(rng.randint(1, 3))
        )
        text = (part * (1 + 1000 // len(part)))[:1000]
        started = clock()
        mask(rules, [text])
        took = clock() - started
        total += took
        slowest = max(slowest, (took, part))
    print(
        f"| {count} hostile texts of 1 KB | mean {total / count * 1e6:.0f} µs "
        f"| slowest {slowest[0] * 1e3:.1f} ms: {slowest[1][:40]!r} |"
    )


def mistakes() -> None:
    """Count what is masked in text that holds no secret."""
    rng = random.Random(1)
    noise = [rng.randbytes(48) for _ in range(50_000)]
    corpora = {
        "the standard library": "\n".join(
            path.read_text(errors="replace") for path in sorted(LIBRARY.glob("*.py"))
        ),
        "UUIDs": "\n".join(str(uuid.UUID(bytes=each[:16])) for each in noise),
        "SHA-256": "\n".join(hashlib.sha256(each).hexdigest() for each in noise),
        "base64": "\n".join(base64.b64encode(each).decode() for each in noise),
    }
    for name, text in corpora.items():
        for chosen in ("default", "all"):
            hits = Counter(hit.rule for hit in show_hits(SETS[chosen], text))
            found = ", ".join(f"{rule} {count}" for rule, count in hits.most_common(5))
            print(f"| {name}, {len(text) / 1e6:.1f} MB | {chosen} | {hits.total()} | {found} |")


if __name__ == "__main__":
    for part in (cost, linear, hostile, mistakes):
        part()
        print()
