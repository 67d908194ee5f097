"""BM25 models of one's own: another language, another mean length, other stop words."""

import json

import pytest
import snowballstemmer
from hypothesis import given
from hypothesis import strategies as st

from sparse_embed import SparseEncoder
from sparse_embed.server import create_app, serve_in_thread
from sparse_embed.server.engines.bm25 import Bm25
from sparse_embed.server.engines.languages import find_language
from sparse_embed.server.own_bm25 import measure_length, read_language, read_option

LISTED = [
    "danish", "dutch", "english", "finnish", "french", "german", "hungarian", "italian", "norwegian", "portuguese",
    "russian", "spanish", "swedish",
]  # fmt: skip
LANGUAGES = sorted(set(snowballstemmer.algorithms()) - {"porter", "dutch_porter"})

# Letters where languages differ: marks of their own, two ways to write one letter, case, apostrophes.
LETTERS = "aeiouäßüıİ'’ लड़कियाँ தமிழ் \n."  # noqa: RUF001  # letters that look alike are the point
texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(LETTERS)))


def tokens(engine, text):
    return sorted(engine.embed([text], "document").vectors[0].tokens)


def english(**options):
    return Bm25("own", language=find_language("english"), **options)


# --- vectors -----------------------------------------------------------------------------------------------------


def test_german_keeps_its_golden_stems_and_weights():
    german = read_option("de,language=german,document-length=8")
    text = "Die Häuser am Fluss; dass das Haus, in dem die Bürger wohnten, größer war als alle Häuser."
    [vector] = german.embed([text], "document").vectors
    # Seven words count, so the saturation of k = 1.2 and b = 0.75 is 1.2 (0.25 + 0.75 · 7 / 8) = 1.0875.
    by_token = dict(zip(vector.tokens, zip(vector.indices, vector.values, strict=True), strict=True))
    assert by_token == {
        "haus": (18554856, pytest.approx(6.6 / 4.0875)),
        "fluss": (417436433, pytest.approx(2.2 / 2.0875)),
        "burg": (670823181, pytest.approx(2.2 / 2.0875)),
        "wohnt": (1525437673, pytest.approx(2.2 / 2.0875)),
        "gross": (631207143, pytest.approx(2.2 / 2.0875)),
    }
    assert tokens(german, "das Haus") == tokens(german, "Hauses") == ["haus"]


@given(st.text())
def test_english_at_256_words_gives_the_vectors_of_local_bm25(text):
    own = read_option("own,document-length=256")
    for role in ("document", "query"):
        assert own.embed([text], role) == Bm25().embed([text], role)


@given(st.text(), st.floats(min_value=1, max_value=1_000_000))
def test_the_mean_length_changes_weights_only_and_only_in_documents(text, length):
    own, plain = english(average_length=length), Bm25()
    assert own.embed([text], "query") == plain.embed([text], "query")
    [ours], [theirs] = own.embed([text], "document").vectors, plain.embed([text], "document").vectors
    assert (ours.indices, ours.tokens) == (theirs.indices, theirs.tokens)
    assert all(0 < value < 2.2 for value in ours.values)
    for one, other in zip(ours.values, theirs.values, strict=True):
        assert one <= other if length <= 256 else one >= other


def test_a_document_of_mean_length_gives_a_word_the_weight_of_plain_saturation():
    [vector] = english(average_length=3).embed(["apple banana cherry"], "document").vectors
    assert vector.values == pytest.approx([1.0] * 3)


@pytest.mark.parametrize("name", LANGUAGES)
@given(text=texts)
def test_any_text_in_any_language_gets_a_sound_vector(name, text):
    engine = Bm25("own", language=find_language(name, ["a", "ß"]))
    for role in ("document", "query"):
        [vector] = engine.embed([text], role).vectors
        assert vector.indices == sorted(set(vector.indices))
        assert len(vector.indices) == len(vector.values) == len(vector.tokens)
        assert all(0 < value < 2.2 for value in vector.values)
        assert all(vector.tokens)


@pytest.mark.parametrize("name", LISTED)
def test_a_text_of_stop_words_is_empty_in_every_language_with_a_list(name):
    language = find_language(name)
    assert Bm25("own", language=language).embed([" ".join(language.stop_words).upper()], "document").vectors == [
        ([], [], [])
    ]
    assert len(language.stop_words) > 90


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("german", "Straße", "STRASSE"),
        ("german", "Mu\N{COMBINING DIAERESIS}ller", "Müller"),  # as macOS writes file names
        ("french", "l’école", "école"),  # noqa: RUF001
        ("turkish", "IŞIK", "ışık"),  # noqa: RUF001
        ("turkish", "İZMİR", "izmir"),
        ("hindi", "लड़कियाँ", "लड़कियों"),
    ],
)
def test_two_writings_of_a_word_are_one_term(name, one, other):
    engine = Bm25("own", language=find_language(name, find_language("french").stop_words))
    assert tokens(engine, one) == tokens(engine, other)
    assert len(tokens(engine, one)) == 1


def test_stop_words_of_ones_own_replace_the_list(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("Fluss\nl'\n", encoding="utf-8")
    engine = read_option(f"own,language=german,stop-words={file}")
    assert tokens(engine, "das l Fluss und Haus") == ["das", "haus", "und"]
    polish = read_option(f"pl,language=polish,stop-words={file}")
    assert tokens(polish, "fluss domami") == ["dom"]


# --- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("", ["no model name"]),
        ("ä,language=german", ["'ä' is no model name"]),
        ("de language=german", ["no model name"]),
        ("-de", ["no model name"]),
        ("de,german", ["'german' is not understood", "OPTION=VALUE", "language, document-length, stop-words"]),
        ("de,lang=german", ["'lang=german' is not understood"]),
        ("de,language=", ["'language=' is not understood"]),
        ("de,", ["'' is not understood"]),
        ("de,language=german,language=dutch", ["language is given twice"]),
        ("de,language=German", ["'German' is unknown", *LISTED, "stop word list of your own from", "polish"]),
        ("de,language=porter", ["'porter' is unknown"]),
        ("pl,language=polish", ["no stop word list for polish", *LISTED, "stop-words"]),
        ("de,document-length=short", ["document-length=short", "1 to 1,000,000"]),
        *((f"de,document-length={bad}", [f"document-length={bad}"]) for bad in ("0", "-1", "nan", "inf", "1e7", "0.5")),
        ("de,stop-words=nowhere.txt", ["nowhere.txt: No such file"]),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_wrong_and_the_choices(option, words):
    with pytest.raises(ValueError, match=r".") as refused:
        read_option(option)
    assert all(word in str(refused.value) for word in words), refused.value


@given(st.text())
def test_any_option_gives_a_model_or_a_sentence(option):
    try:
        assert read_option(option).name
    except ValueError as error:
        assert str(error)


def test_a_file_of_stop_words_must_be_utf8(tmp_path):
    file = tmp_path / "words.txt"
    file.write_bytes("über".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8"):
        read_language("german", file)


# --- the mean length of a file -----------------------------------------------------------------------------------


def test_the_mean_length_counts_words_that_count_per_document(tmp_path):
    lines, objects = tmp_path / "texts.txt", tmp_path / "texts.jsonl"
    lines.write_text("Die Häuser am Fluss\n\n  \nund der Hund\r\n", encoding="utf-8")
    texts = ["Die Häuser am\u2028Fluss", "und\nder Hund"]
    objects.write_text("".join(json.dumps({"text": text, "id": 1}) + "\n" for text in texts), encoding="utf-8")
    german = read_language("german")
    assert measure_length(lines, german) == measure_length(objects, german) == (1.5, 2)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1))
def test_the_mean_is_that_of_the_lengths(tmp_path_factory, documents):
    file = tmp_path_factory.mktemp("mean") / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    engine = Bm25()
    mean = sum(map(engine.length, documents)) / len(documents)
    assert measure_length(file, read_language("english")) == (pytest.approx(mean), len(documents))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "no documents"),
        ("a.txt", b"\n \n", "no documents"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', "line 2: not JSON"),
        ("a.jsonl", b'"text"', "line 1: not an object with a string `text`"),
        ("a.jsonl", b'{"text": 5}', "line 1: not an object with a string `text`"),
        ("a.jsonl", b"[" * 100_000, "line 1: not JSON"),
    ],
)
def test_a_file_that_cannot_be_measured_is_said_with_the_line(tmp_path, name, content, words):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        measure_length(file, read_language("english"))
    with pytest.raises(ValueError, match="No such file"):
        measure_length(tmp_path / "nowhere", read_language("english"))


# --- the server --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["chroma", "pinecone"])
def test_a_further_model_answers_on_both_wires_under_its_name(provider):
    german = read_option("local/bm25-de,language=german,document-length=8")
    with (
        serve_in_thread(create_app(own_bm25=[german])) as url,
        SparseEncoder(provider, model="local/bm25-de", api_key="any", base_url=url, return_tokens=True) as encoder,
    ):
        [vector] = encoder.embed_documents(["Die Häuser am Fluss"])
        [expected] = german.embed(["Die Häuser am Fluss"], "document").vectors
        assert (vector.indices, vector.tokens) == (tuple(expected.indices), tuple(expected.tokens))
        assert vector.values == pytest.approx(expected.values)


@pytest.mark.parametrize("name", ["local/bm25", "local/hashing", "BAAI/bge-m3", "pinecone-sparse-english-v0", "mine"])
def test_a_name_that_is_taken_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is taken"):
        create_app(own_bm25=[Bm25("mine"), Bm25(name)])
