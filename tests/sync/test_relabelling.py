"""A class becomes another one: in the config's text, in regions and in the ledger's records."""

from __future__ import annotations

import json

import pytest

from labels.config import LabelConfig, default_label_config_path
from labels.errors import LabelConfigError, LabelingError
from sync.review.label_config_edit import add_class, remove_class
from sync.review.relabelling import Renaming, choose_renaming, rename_class_text, rename_records, rename_regions

XML = """<?xml version="1.0"?>
<!-- häufig -->
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="car" hotkey="1" background='#fff' predicted_values="car,van"/> <!-- fast -->
    <Label value="Käfer &amp; Co" model_score_threshold="0.4"></Label>
    <Label value="bus"   hotkey="b"/>
  </RectangleLabels>
  <PolygonLabels name="outline" toName="image"><Label value="car"/><Label value="tree"/></PolygonLabels>
  <Choices name="quality" toName="image" choice="multiple"><Choice value="keep"/><Choice value="trash"/></Choices>
</View>
"""


def test_a_new_name_takes_the_place_the_key_and_the_models_classes_of_the_old_one():
    both = add_class(XML, "label", "car", "Auto")
    assert both == XML.replace(
        """<Label value="car" hotkey="1" background='#fff' predicted_values="car,van"/>""",
        '<Label value="Auto" hotkey="1" background="#fff" predicted_values="car,van"/>\n'
        '    <Label value="car" background="#fff"/>',
    )
    control = LabelConfig.from_xml(both).control("label")
    assert control.classes == ("Auto", "car", "Käfer & Co", "bus")
    after = LabelConfig.from_xml(remove_class(both, "label", "car")).control("label")
    assert after.classes == ("Auto", "Käfer & Co", "bus")
    assert (after.class_for("car"), after.class_for("van"), after.class_for("auto")) == ("Auto", "Auto", "Auto")


def test_the_rest_of_the_text_stays_to_the_byte():
    after = remove_class(add_class(XML, "label", "Käfer & Co", "Käfer"), "label", "Käfer & Co")
    assert after == XML.replace(
        '<Label value="Käfer &amp; Co" model_score_threshold="0.4"></Label>',
        '<Label value="Käfer" model_score_threshold="0.4" predicted_values="Käfer &amp; Co"/>',
    )
    assert LabelConfig.from_xml(after).control("label").thresholds == {"Käfer": 0.4}


def test_a_class_that_goes_into_another_leaves_it_the_models_classes():
    both = add_class(XML, "label", "car", "bus")
    assert LabelConfig.from_xml(both).control("label").classes == ("car", "Käfer & Co", "bus")
    after = LabelConfig.from_xml(remove_class(both, "label", "car")).control("label")
    assert after.classes == ("Käfer & Co", "bus")
    assert (after.class_for("van"), after.class_for("car"), after.class_for("bus")) == ("bus", "bus", "bus")
    assert 'value="bus"' in both
    assert 'hotkey="b"' in both


def test_adding_twice_and_removing_twice_change_nothing():
    once = add_class(XML, "label", "car", "Auto")
    assert LabelConfig.from_xml(add_class(once, "label", "car", "Auto")).controls == LabelConfig.from_xml(once).controls
    gone = remove_class(once, "label", "car")
    assert remove_class(gone, "label", "car") == gone


def test_only_the_named_control_is_changed():
    after = LabelConfig.from_xml(remove_class(add_class(XML, "outline", "car", "Auto"), "outline", "car"))
    assert after.control("outline").classes == ("Auto", "tree")
    assert after.control("label").classes == ("car", "Käfer & Co", "bus")


def test_a_choice_is_renamed_like_a_label():
    after = remove_class(add_class(XML, "quality", "keep", "good"), "quality", "keep")
    assert LabelConfig.from_xml(after).control("quality").classes == ("good", "trash")


def test_the_number_of_a_key_point_moves_with_its_class():
    xml = (
        '<View><Image name="i" value="$i"/><KeyPointLabels name="k" toName="i">'
        '<Label value="nose" model_index="0"/><Label value="eye" model_index="1"/></KeyPointLabels></View>'
    )
    after = LabelConfig.from_xml(remove_class(add_class(xml, "k", "nose", "snout"), "k", "nose"))
    assert after.control("k").model_indices == {0: "snout", 1: "eye"}


def test_windows_line_ends_stay():
    xml = XML.replace("\n", "\r\n")
    after = remove_class(add_class(xml, "label", "bus", "coach"), "label", "bus")
    assert after == xml.replace(
        '<Label value="bus"   hotkey="b"/>', '<Label value="coach" hotkey="b" predicted_values="bus"/>'
    )


def test_the_config_that_comes_with_labelloop_can_be_renamed():
    xml = default_label_config_path().read_text(encoding="utf-8")
    after = LabelConfig.from_xml(remove_class(add_class(xml, "label", "person", "human"), "label", "person"))
    before = LabelConfig.from_xml(xml)
    assert after.control("label").classes == ("human", *before.control("label").classes[1:])


def test_a_class_that_is_not_there_is_an_error_that_names_it():
    with pytest.raises(LabelConfigError, match="'truck' is not in control 'label'"):
        add_class(XML, "label", "truck", "bus")


def test_the_only_control_with_the_class_is_meant():
    config = LabelConfig.from_xml(XML)
    assert choose_renaming(config, "bus", "coach", None) == Renaming("label", "RectangleLabels", "bus", "coach")
    assert choose_renaming(config, "car", "coach", "outline") == Renaming("outline", "PolygonLabels", "car", "coach")
    with pytest.raises(LabelConfigError, match=r"several controls have the class 'car' \(label, outline\)"):
        choose_renaming(config, "car", "coach", None)
    with pytest.raises(LabelConfigError, match="class 'truck' is in no control"):
        choose_renaming(config, "truck", "coach", None)
    with pytest.raises(LabelingError, match="two different names"):
        choose_renaming(config, "bus", " bus", None)


def test_the_end_of_an_interrupted_renaming_is_found_by_the_new_name():
    config = LabelConfig.from_xml(remove_class(add_class(XML, "label", "bus", "coach"), "label", "bus"))
    assert choose_renaming(config, "bus", "coach", None).control == "label"


BUS_TO_CAR = Renaming("label", "RectangleLabels", "bus", "car")


def region(name: str, *, control: str = "label") -> dict[str, object]:
    value = {"x": 1, "y": 2, "width": 3, "height": 4, "rectanglelabels": [name]}
    return {"id": "r1", "type": "rectanglelabels", "from_name": control, "value": value, "score": 0.5, "meta": {"a": 1}}


def test_a_region_is_renamed_and_all_else_in_it_stays():
    result = [region("dog"), region("bus"), region("bus", control="other"), {"type": "relation"}, "no region"]
    renamed = rename_regions(result, BUS_TO_CAR)
    assert renamed == [region("dog"), region("car"), *result[2:]]
    assert result[1] == region("bus")
    assert rename_regions(renamed, BUS_TO_CAR) is None


def test_two_choices_that_become_one_are_ticked_once():
    ticked = [{"from_name": "quality", "type": "choices", "value": {"choices": ["keep", "trash"]}}]
    renamed = rename_regions(ticked, Renaming("quality", "Choices", "keep", "trash"))
    assert renamed == [{"from_name": "quality", "type": "choices", "value": {"choices": ["trash"]}}]


def test_a_record_of_the_ledger_is_renamed_in_its_control_alone():
    records = [
        {"id": "1", "control": "label", "classes": ["bus"], "box": [0, 0, 1.5, 2, 0.0]},
        {"id": "2", "control": "outline", "classes": ["bus"]},
        {"id": "3", "control": "stars", "rating": 4},
    ]
    renamed = json.loads(rename_records(json.dumps(records), BUS_TO_CAR) or "")
    assert renamed == [records[0] | {"classes": ["car"]}, records[1], records[2]]
    assert rename_records(None, BUS_TO_CAR) is None


def test_the_class_of_a_verdict_is_renamed():
    assert rename_class_text("bus", BUS_TO_CAR) == "car"
    assert rename_class_text("business", BUS_TO_CAR) == "business"
    assert rename_class_text(None, BUS_TO_CAR) is None
    assert rename_class_text("keep, trash", Renaming("quality", "Choices", "keep", "good")) == "good, trash"


def test_a_renaming_is_kept_as_text():
    assert Renaming.from_json(BUS_TO_CAR.to_json()) == BUS_TO_CAR
    assert Renaming("label", "RectangleLabels", "bus", "big bus").command == (
        'labelloop relabel bus "big bus" --control label'
    )
