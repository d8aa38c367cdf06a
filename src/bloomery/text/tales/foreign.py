"""Small texts in languages other than English, for a language filter to find."""

from typing import NamedTuple

from bloomery.text.tales.draws import Draws


class Language(NamedTuple):
    """A few sentences of one language, with {name}, {place} and {thing} to fill in."""

    code: str
    names: tuple[str, ...]
    places: tuple[str, ...]
    things: tuple[str, ...]
    sentences: tuple[str, ...]


LANGUAGES = (
    Language(
        "de",
        ("Jürgen", "Käthe", "Anselm", "Friederike"),
        ("in der Scheune", "am Brunnen", "auf dem Hügel", "in der Küche"),
        ("den Eimer", "den Schlüssel", "die Laterne", "das Körbchen"),
        (
            "An einem kühlen Morgen war {name} {place}.",
            "Dort fand {name} {thing} und freute sich sehr.",
            "Später brachte {name} {thing} nach Hause.",
            "Niemand wusste, wer {thing} {place} vergessen hatte.",
            "Am Abend saß {name} {place} und erzählte eine lange Geschichte.",
            "Die Kinder fragten immer wieder nach dem Ende.",
        ),
    ),
    Language(
        "fr",
        ("Hélène", "Gaspard", "Odile", "Étienne"),
        ("dans la grange", "près du puits", "sur la colline", "au marché"),
        ("le seau", "la clé", "la lanterne", "le panier"),
        (
            "Un matin de printemps, {name} était {place}.",
            "{name} a trouvé {thing} et l'a gardé toute la journée.",
            "Personne ne savait qui avait oublié {thing} {place}.",
            "Plus tard, {name} est allé {place} pour se reposer.",
            "Le soir venu, on racontait encore cette histoire aux enfants.",
            "Alors {name} a rendu {thing} à son voisin.",
        ),
    ),
    Language(
        "es",
        ("Íñigo", "Begoña", "Ramón", "Lucía"),
        ("en el granero", "junto al pozo", "en la colina", "en el mercado"),
        ("el cubo", "la llave", "la linterna", "la cesta"),
        (
            "Una mañana fría, {name} estaba {place}.",
            "Allí encontró {thing} y se puso muy contento.",
            "Nadie sabía quién había dejado {thing} {place}.",
            "Más tarde, {name} llevó {thing} a su casa.",
            "Por la noche los niños pidieron otra historia.",
            "Al final {name} se quedó {place} mirando las estrellas.",
        ),
    ),
    Language(
        "it",
        ("Niccolò", "Beatrice", "Tommaso", "Ginevra"),
        ("nel fienile", "vicino al pozzo", "sulla collina", "al mercato"),
        ("il secchio", "la chiave", "la lanterna", "il cestino"),
        (
            "Una mattina d'inverno {name} era {place}.",
            "Lì {name} trovò {thing} e ne fu molto felice.",
            "Nessuno sapeva chi avesse lasciato {thing} {place}.",
            "Più tardi {name} portò {thing} a casa.",
            "La sera i bambini chiesero un'altra storia.",
            "Così {name} rimase {place} fino a notte.",
        ),
    ),
    Language(
        "nl",
        ("Joost", "Maaike", "Thijs", "Liesbeth"),
        ("in de schuur", "bij de put", "op de heuvel", "op de markt"),
        ("de emmer", "de sleutel", "de lantaarn", "het mandje"),
        (
            "Op een koude ochtend was {name} {place}.",
            "Daar vond {name} {thing} en was erg blij.",
            "Niemand wist wie {thing} {place} had laten liggen.",
            "Later bracht {name} {thing} weer naar huis.",
            "'s Avonds vroegen de kinderen om nog een verhaal.",
            "Zo bleef {name} {place} tot het donker werd.",
        ),
    ),
)  # fmt: skip


def foreign(draws: Draws) -> tuple[str, str]:
    """The code of a language and a text of five sentences in it."""
    language = draws.pick(LANGUAGES)
    left = list(language.sentences)
    sentences = [draws.take(left) for _ in range(5)]
    return language.code, " ".join(
        sentence.format(name=draws.pick(language.names), place=draws.pick(language.places), thing=draws.pick(language.things))
        for sentence in sentences
    )
