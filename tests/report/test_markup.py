"""Text meets tags escaped."""

from sightline.report.markup import Markup, join, tag


def test_text_is_escaped_and_tags_are_not() -> None:
    assert tag("p", "1 < 2 & ", tag("b", "<b>")) == "<p>1 &lt; 2 &amp; <b>&lt;b&gt;</b></p>"


def test_attributes() -> None:
    assert (
        tag("rect", class_='"a"', stroke_width=2, id=None)
        == '<rect class="&quot;a&quot;" stroke-width="2"/>'
    )
    assert tag("rect", tag("title", "here")) == "<rect><title>here</title></rect>"
    assert tag("td") == "<td></td>"


def test_join() -> None:
    assert join(["<", Markup("<br>"), ">"], " & ") == "&lt; &amp; <br> &amp; &gt;"
