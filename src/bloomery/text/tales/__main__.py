"""`python -m bloomery.text.tales`: the census, and one tale with its questions and continuations."""

from bloomery.text.tales.census import census
from bloomery.text.tales.tales import Tales


def main() -> None:
    """Prints what the book holds and an example of it."""
    print(census(), end="\n\n")
    tale = Tales(split="held_out").tale(0)
    print(f"{tale.id}\n{tale.text}\n")
    for question in tale.questions:
        print(f"  {question.text:<44} {question.answer:<28} ({question.kind})")
    print(f"\n  better: {tale.better}\n  worse:  {tale.worse}\n  reason: {tale.reason}")


if __name__ == "__main__":
    main()
