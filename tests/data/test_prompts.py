from hypothesis import given
from hypothesis import strategies as st

from lowshot.data import class_prompts


def test_underscores_in_names_are_spaces():
    assert class_prompts(["polar_bear", "cat"], "a photo of a {}.") == ["a photo of a polar bear.", "a photo of a cat."]


def test_braces_and_backslashes_in_names_are_left_as_they_are():
    names = ["{}", "{0}", "{name!r}", r"\1", "%s"]

    assert class_prompts(names, "<{}>") == [f"<{name}>" for name in names]


def test_only_empty_braces_in_the_template_are_replaced():
    assert class_prompts(["cat"], "{0} {x} {}") == ["{0} {x} cat"]


@given(st.lists(st.text()), st.text(st.characters(exclude_characters="{}")), st.text())
def test_each_class_has_one_prompt_in_order(names, before, after):
    prompts = class_prompts(names, before + "{}" + after.replace("{}", ""))

    assert len(prompts) == len(names)
    assert all(name.replace("_", " ") in prompt for name, prompt in zip(names, prompts, strict=True))
