import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import layouts
from lowshot.data import class_prompts, load_task, long_prompts_named, prompts_for, read_words
from lowshot.data.catalogue import CATALOGUE
from lowshot.data.prompts import cleaned
from lowshot.errors import DataError, LongPromptError
from lowshot.settings import TEMPLATE_SETS, DataConfig
from refusing import refused

ANIMALS = ("polar_bear", "cat")


@pytest.fixture
def file(tmp_path):
    """Writes a file of words, from bytes or from what JSON can say; returns its path."""

    def file(content, name="words.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return str(path)

    return file


# -- cleaning ----------------------------------------------------------------------------------------------------------


# What ``whitespace_clean(basic_clean(text))`` of openai/CLIP, clip/simple_tokenizer.py, returned with ftfy 6.3.1.
AS_OPENAI = {
    "Men\u2019s shoes": "Men's shoes",
    "\u201cquoted\u201d \u201eword\u201f": '"quoted" "word"',
    "Tom &amp; Jerry": "Tom & Jerry",
    "Men&#8217;s &amp;amp; more": "Men's & more",
    "\ufb01sh of \ufb03 \u0133s": "fish of ffi ijs",
    "\uff21\uff22\uff23\u3000\uff11": "ABC 1",
    "e\u0301clair": "\u00e9clair",
    " a\tb \n c\u00a0d\ufeff\x00 ": "a b c d",
    "\u732b, na\u00efve \u2013 it's": "\u732b, na\u00efve \u2013 it's",
}


@pytest.mark.parametrize(("text", "expected"), AS_OPENAI.items())
def test_words_are_cleaned_as_openais_tokenizer_cleans_them(file, text, expected):
    names, sentences = file({"cat": [text]}, "names.json"), file({"dog": [text]}, "sentences.json")
    config = DataConfig(template=("a {}.",), class_names=names, descriptions=sentences)
    of_cats, of_dogs = prompts_for(["cat", "dog"], config, data="pets")
    assert (of_cats, of_dogs[1]) == ((f"a {expected}.",), expected)
    of_name, _ = prompts_for([text.strip("\x00\ufeff "), "dog"], DataConfig(template=("a {}.",)), data="pets")
    assert of_name == (f"a {expected}.",)


@given(st.text(st.characters(exclude_characters="&_", max_codepoint=0x24F, exclude_categories=["Cc"])))
def test_cleaned_words_are_clean(text):
    assert cleaned(cleaned(text)) == cleaned(text)


# -- from templates and words to prompts -------------------------------------------------------------------------------


def test_underscores_in_names_are_spaces():
    assert class_prompts(ANIMALS, ["a photo of a {}."]) == (("a photo of a polar bear.",), ("a photo of a cat.",))


def test_braces_and_backslashes_in_names_are_left_as_they_are():
    names = ["{}", "{0}", "{name!r}", r"\1", "%s"]

    assert class_prompts(names, ["<{}>"]) == tuple((f"<{name}>",) for name in names)


def test_only_empty_braces_in_the_template_are_replaced():
    assert class_prompts(["cat"], ["{0} {x} {}"]) == (("{0} {x} cat",),)


@given(st.lists(st.text()), st.text(st.characters(exclude_characters="{}")), st.text())
def test_each_class_has_one_prompt_in_order(names, before, after):
    prompts = class_prompts(names, [before + "{}" + after.replace("{}", "")])

    assert [len(sentences) for sentences in prompts] == [1] * len(names)
    assert all(name.replace("_", " ") in prompt for name, (prompt,) in zip(names, prompts, strict=True))


@given(
    st.lists(st.text("ab_", min_size=1), min_size=1, unique=True),
    st.lists(st.sampled_from(["{}", "a {}", "{}.", "the {}"]), min_size=1),
    st.dictionaries(st.text("ab_", min_size=1), st.lists(st.text("xy", min_size=1), min_size=1)),
    st.dictionaries(st.text("ab_", min_size=1), st.lists(st.text("xy ", min_size=1), min_size=1)),
)
def test_a_class_is_said_in_every_template_by_every_name_and_described_and_nothing_is_said_twice(
    names, templates, called, descriptions
):
    for name, sentences in zip(names, class_prompts(names, templates, called, descriptions), strict=True):
        in_templates = {t.replace("{}", n) for t in templates for n in called.get(name, [name.replace("_", " ")])}
        assert set(sentences) == in_templates | set(descriptions.get(name, ()))
        assert len(sentences) == len(set(sentences))


def test_prompts_come_in_the_order_of_names_then_templates_then_descriptions():
    prompts = class_prompts(["cat"], ["a {}", "the {}"], {"cat": ["kitten", "tom_cat"]}, {"cat": ["It purrs."]})
    assert prompts == (("a kitten", "the kitten", "a tom_cat", "the tom_cat", "It purrs."),)


# -- by the settings ---------------------------------------------------------------------------------------------------


def test_names_and_descriptions_are_those_of_the_files_and_other_classes_keep_theirs(file):
    config = DataConfig(
        template=("a photo of a {}.", "{}"),
        class_names=file({"cat": ["kitten", "tomcat"]}, "names.json"),
        descriptions=file({"polar_bear": "A white bear."}, "descriptions.json"),
    )
    assert prompts_for(ANIMALS, config, data="zoo") == (
        ("a photo of a polar bear.", "polar bear", "A white bear."),
        ("a photo of a kitten.", "kitten", "a photo of a tomcat.", "tomcat"),
    )


def test_the_seven_templates_of_clip_are_those_of_its_notebook():
    assert TEMPLATE_SETS["clip-7"] == (
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    )
    prompts = prompts_for(["cat", "dog"], DataConfig(template=("{}", "clip-7")), data="pets")
    assert prompts[1] == ("dog", *(template.replace("{}", "dog") for template in TEMPLATE_SETS["clip-7"]))


@pytest.mark.parametrize("name", ["dtd", "imagenet_a"])
def test_coop_stands_for_the_template_of_the_data_set(name, tmp_path, monkeypatch):
    layouts.install(name, tmp_path, monkeypatch)
    task = load_task(name, root=tmp_path)
    config = DataConfig(template=("coop",))
    prompts = prompts_for(task.class_names, config, data=task.name, template=task.template)
    assert prompts == class_prompts(task.class_names, [CATALOGUE[name].template])
    assert ("texture" in prompts[0][0]) == (name == "dtd")


def test_coop_stands_for_nothing_where_the_data_have_no_template():
    with refused(DataError, "template coop", "zoo", "'a photo of a {}.'"):
        prompts_for(ANIMALS, DataConfig(template=("{}", "coop")), data="zoo")


@pytest.mark.parametrize("setting", ["class_names", "descriptions"])
def test_a_class_that_the_data_lack_is_refused_with_the_nearest(file, setting):
    config = DataConfig(**{setting: file({"cat": "kitten", "polar bear": "a white bear"})})
    with refused(DataError, "words.json", "'polar bear'", "zoo", "'polar_bear'"):
        prompts_for(ANIMALS, config, data="zoo")
    assert prompts_for(ANIMALS, config, data="zoo", others=["polar bear"])[1] != (("a photo of a cat.",),)


def test_a_file_of_other_data_is_refused_with_the_classes_there_are(file):
    config = DataConfig(class_names=file({"Boeing": "a jet", "Airbus": "a jet"}))
    names = [f"{letter}-{letter}" for letter in "abcdefghijklm"]
    with refused(DataError, "'Airbus'", "letters", "1 more", "'a-a', 'b-b'") as raised:
        prompts_for(names, config, data="letters")
    assert "k-k" not in str(raised.value)


@pytest.mark.parametrize(
    ("words", "templates"),
    [
        ({"polar_bear": "Cat"}, ("a {}",)),
        ({"polar_bear": ["x", "y"], "cat": ["y", " X "]}, ("a {}", "the {}")),
    ],
)
def test_two_classes_that_come_to_the_same_prompts_are_refused(file, words, templates):
    config = DataConfig(template=templates, class_names=file(words))
    with refused(DataError, "'polar_bear' and 'cat'", "the same prompts"):
        prompts_for(ANIMALS, config, data="zoo")


def test_classes_may_share_some_of_their_prompts(file):
    config = DataConfig(class_names=file({"polar_bear": ["animal", "bear"], "cat": ["animal", "cat"]}))
    assert len(prompts_for(ANIMALS, config, data="zoo")) == 2


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_no_part_of_the_text(file):
    assert read_words("class-names", file(b'\xef\xbb\xbf{"cat": " \xe7\x8c\xab "}')) == {"cat": ("猫",)}


def test_no_file_says_nothing():
    assert read_words("class-names", None) == {}


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"", ("not JSON", "Expecting value")),
        (b'{"cat": "kitten"', ("not JSON", "','")),
        (b"cat: kitten", ("not JSON",)),
        (b"\xff\xfe{\x00", ("cannot be read", "UTF-8")),
        (b"[" * 200_000, ("not JSON",)),
        (b'{"cat": ' + b"9" * 5000 + b"}", ("not JSON",)),
        (["cat"], ("a list", "an object", '{"class": ["what to say"]}')),
        ("cat", ("a str", "an object")),
        (None, ("a NoneType", "an object")),
        ({}, ("no class",)),
        (b'{"cat": "a", "dog": "b", "cat": "c"}', ("'cat'", "twice")),
        ({"cat": 3}, ("'cat'", "'3'", "a text")),
        ({"cat": None}, ("'cat'", "'None'", "a text")),
        ({"cat": []}, ("'cat'", "'[]'", "a text")),
        ({"cat": ["a", 3]}, ("'cat'", "a text")),
        ({"cat": {"a": "b"}}, ("'cat'", "a text")),
        ({"cat": ["a", " \n"]}, ("'cat'", r"' \n'", "words")),
        ({"cat": ""}, ("'cat'", "''", "words")),
        (b'{"cat": "\\ud83d"}', ("'cat'", r"'\ud83d'", "words")),
    ],
    ids=range(19),
)
def test_a_bad_file_is_refused_with_its_name_and_what_is_wrong(file, content, facts):
    with refused(DataError, "descriptions", "words.json", *facts):
        read_words("descriptions", file(content))


def test_what_is_no_file_is_named(tmp_path):
    for path, fact in ((tmp_path / "none.json", "does not exist"), (tmp_path, "no file")):
        with refused(DataError, "class-names", path, fact):
            read_words("class-names", str(path))
    with refused(DataError, "class-names", "x" * 5000, "does not exist"):
        read_words("class-names", "x" * 5000)


def test_a_file_of_absurd_size_is_not_read(file, monkeypatch):
    monkeypatch.setattr("lowshot.data.listing.MAXIMUM_CHARACTERS", 10)
    with refused(DataError, "words.json", "10 characters"):
        read_words("class-names", file({"cat": "kitten"}))


# -- afterwards --------------------------------------------------------------------------------------------------------


def test_a_prompt_that_proves_too_long_is_refused_with_its_class():
    prompts = (("a polar bear",), ("a cat", "a very long cat"))
    facts = ("'cat'", "'a very long cat'", 90, 77, "--class-names")
    with refused(DataError, *facts), long_prompts_named(ANIMALS, prompts):
        raise LongPromptError("a very long cat", 90, 77)
