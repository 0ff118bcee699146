"""The tools of the repository: stored outputs, the gate, the site."""

import asyncio
import base64
import io
from copy import deepcopy
from queue import Empty

import check
import notebooks
import numpy as np
import pytest
import site_builder
from matplotlib.image import imsave
from notebooks import WIDGET_STATE, WIDGET_VIEW

# ---- notebooks ----


def code(source: str, *outputs: dict) -> dict:
    made = {"cell_type": "code", "source": source, "metadata": {"execution": {"start": "now"}}, "execution_count": 3}
    return {**made, "outputs": list(outputs)}


def stream(text: str, name: str = "stdout") -> dict:
    return {"output_type": "stream", "name": name, "text": text}


def shown(**data) -> dict:
    return {"output_type": "display_data", "metadata": {}, "data": data}


def notebook(*cells: dict, **metadata) -> dict:
    return {"cells": list(cells), "metadata": {"kernelspec": {"name": "python3", "display_name": "x"}, **metadata}}


def with_slider(slider: str, layout: str, unused: str) -> dict:
    "A page with one slider whose ids are as random as a kernel makes them."
    state = {
        unused: {"model_name": "Unused", "state": {}},
        layout: {"model_name": "Layout", "state": {"width": "auto"}},
        slider: {"model_name": "Slider", "state": {"layout": f"IPY_MODEL_{layout}", "value": 1.0}},
    }
    view = {WIDGET_VIEW: {"model_id": slider, "version_major": 2}}
    return notebook(code("slider", shown(**view)), widgets={WIDGET_STATE: {"state": state}})


def test_normal_form_has_nothing_that_two_runs_do_not_share():
    parts = [stream("a\n"), stream("<f at 0x7f3a>\n"), stream("warned", "stderr")]
    picture = shown(**{"image/png": "abc\n", "text/plain": "<Axes at 0x12>"})
    nb = notebooks.normalise(notebook(code("x", *parts, picture), language_info={"version": "3.11.7"}))
    (cell,) = nb["cells"]
    assert cell["metadata"] == {} and cell["execution_count"] is None
    assert [output.get("text") for output in cell["outputs"]] == ["a\n<f>\n", "warned", None]
    assert cell["outputs"][2]["data"] == {"image/png": "abc", "text/plain": "<Axes>"}
    assert nb["metadata"] == {"kernelspec": {"name": "python3", "display_name": "python3"}}
    assert notebooks.normalise(deepcopy(nb)) == nb


def test_widgets_are_numbered_in_the_order_in_which_they_are_shown():
    one, two = (notebooks.normalise(with_slider(*ids)) for ids in (("c3", "a1", "b2"), ("0f", "9e", "8d")))
    assert one == two
    state = one["metadata"]["widgets"][WIDGET_STATE]["state"]
    assert [model["model_name"] for model in state.values()] == ["Slider", "Layout"]
    first, second = state
    assert state[first]["state"]["layout"] == f"IPY_MODEL_{second}"
    assert one["cells"][0]["outputs"][0]["data"][WIDGET_VIEW]["model_id"] == first
    assert "widgets" not in notebooks.normalise(notebook(code("x"), widgets={WIDGET_STATE: {"state": {}}}))["metadata"]


def test_the_header_gets_a_cell_of_its_own():
    text = {
        "cell_type": "markdown",
        "metadata": {},
        "id": "a",
        "source": "# T\n\n> D.\n\n- skip_exec: true\n\nMore.\n\n- x",
    }
    nb = notebooks.normalise(notebook(text))
    assert [cell["source"] for cell in nb["cells"]] == ["# T\n\n> D.\n\n- skip_exec: true", "More.\n\n- x"]
    assert notebooks.normalise(deepcopy(nb)) == nb


def picture(dots: int) -> str:
    "A grey picture of 1000 pixels, some of them black, as base64."
    pixels, file = np.full((20, 50), 0.5), io.BytesIO()
    pixels.flat[:dots] = 0
    imsave(file, pixels, cmap="gray", vmin=0, vmax=1, format="png")
    return base64.b64encode(file.getvalue()).decode()


def test_differences_are_found_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "FRESH", tmp_path)
    png = [picture(0), picture(200)]
    pairs = {
        "-1": (stream("1"), stream("2")),
        "picture differs": (shown(**{"image/png": png[0]}), shown(**{"image/png": png[1]})),
        "1 stored outputs, 0 fresh": (stream("1"), None),
        "kind or metadata": (
            shown(**{"text/plain": "1"}),
            {**shown(**{"text/plain": "1"}), "output_type": "execute_result"},
        ),
    }
    for words, (old, new) in pairs.items():
        stored, fresh = (notebook(code("x", *([output] if output else []))) for output in (old, new))
        assert words in "\n".join(notebooks.compare(stored, fresh, "page")), words
        assert not notebooks.compare(stored, deepcopy(stored), "page")
    assert (tmp_path / "page-cell00-0-fresh.png").read_bytes() == base64.b64decode(png[1])
    alike = [notebook(code("x", shown(**{"image/png": picture(dots)}))) for dots in (0, 5)]
    assert not notebooks.compare(*alike, "page"), "five of a thousand pixels are another processor's rounding"
    assert "stderr" in notebooks.compare(*[notebook(code("x", stream("w", "stderr")))] * 2, "page")[0]
    assert "widgets" in notebooks.compare(notebook(code("x")), notebook(code("x"), widgets={"a": 1}), "page")[0]


def test_flags_of_cells_and_pages():
    assert notebooks.directives("#| export\n# | eval:false\nx") == {"export", "eval: false"}
    for source in ("#| slow\nx", "#|gpu\nx", "#| eval: false\nx"):
        assert notebooks.is_left_out(source)
    assert not notebooks.is_left_out("x = 1  # slow") and not notebooks.is_left_out("#| export\nx")
    text = {"cell_type": "markdown", "metadata": {}, "source": "# T\n\n> D.\n\n- skip_exec: true"}
    assert notebooks.is_slow_page(notebook(text)) and notebooks.is_slow_page(notebook(code("#| slow\nx")))
    assert not notebooks.is_slow_page(notebook(code("x"), code("#| slow\ny")))


def test_unknown_pages_are_refused():
    with pytest.raises(SystemExit, match="no_such_page"):
        notebooks.chosen_pages(["no_such_page"])


class SleepyChannel:
    "A channel that nobody wakes: a message is seen only by who starts to wait after it came in."

    def __init__(self, arrives_before_call):
        self.waits, self.arrives_before_call = [], arrives_before_call

    async def get_msg(self, timeout=None):
        self.waits.append(timeout)
        if len(self.waits) >= self.arrives_before_call:
            return "answer"
        await asyncio.sleep(timeout)
        raise Empty


def test_an_answer_that_wakes_nobody_is_found_soon():
    channel = SleepyChannel(arrives_before_call=4)
    notebooks.look_often(channel, every=0.01)
    assert asyncio.run(channel.get_msg(timeout=60)) == "answer"
    assert len(channel.waits) == 4 and max(channel.waits) <= 0.01
    assert asyncio.run(channel.get_msg()) == "answer"


def test_a_timeout_without_an_answer_stays_a_timeout():
    channel = SleepyChannel(arrives_before_call=1000)
    notebooks.look_often(channel, every=0.01)
    with pytest.raises(Empty):
        asyncio.run(channel.get_msg(timeout=0.05))
    assert 4 <= len(channel.waits) <= 8


def test_a_run_skips_flagged_cells_and_keeps_their_output(tmp_path):
    import nbformat
    from nbformat import v4

    kept = v4.new_output("stream", name="stdout", text="kept\n")
    cells = [v4.new_code_cell("print(6 * 7)"), v4.new_code_cell("#| slow\n1 / 0", outputs=[kept])]
    path = tmp_path / "01_small.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), path)
    assert notebooks.check_page(path)[1] != []
    assert notebooks.run_page(path)[1] == []
    assert [cell["outputs"][0]["text"] for cell in notebooks.read(path)["cells"]] == ["42\n", "kept\n"]
    assert notebooks.check_page(path)[1] == []
    before = path.read_text()
    notebooks.run_page(path)
    assert path.read_text() == before


# ---- the gate ----


def test_changes_of_the_tree_are_named():
    before, after = {"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}
    assert check.changed(before, after) == ["b changed", "c vanished", "d appeared"]


@pytest.mark.parametrize("outcome, last", [((3, 0), "4 passed, 0 failed"), ((2, 1), "3 passed, 1 failed")])
def test_last_line_and_status(monkeypatch, capsys, outcome, last):
    monkeypatch.setattr(check, "STAGES", {"only": ("a stage", lambda: outcome)})
    monkeypatch.setattr(check, "tree", dict)
    status = check.run_stages(["only"])
    assert capsys.readouterr().out.splitlines()[-1] == last
    assert status == bool(outcome[1])


def test_a_stage_that_breaks_is_a_failure_and_the_next_one_runs(monkeypatch, capsys):
    stages = {"breaks": ("", lambda: 1 / 0), "works": ("", lambda: (1, 0))}
    monkeypatch.setattr(check, "STAGES", stages)
    monkeypatch.setattr(check, "tree", dict)
    assert check.run_stages(["breaks", "works"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 1 failed"


def test_a_stage_that_leaves_a_file_behind_is_a_failure(monkeypatch, capsys):
    trees = iter([{}, {"new": "1"}])
    monkeypatch.setattr(check, "STAGES", {"only": ("", lambda: (1, 0))})
    monkeypatch.setattr(check, "tree", lambda: next(trees))
    assert check.run_stages(["only"]) == 1
    assert "new appeared" in capsys.readouterr().out


# ---- the site ----


def test_links_to_pages_and_to_the_repository():
    files = {"02_noise.ipynb": "noise.html"}
    here, there = {"git_url": "", "branch": "main"}, {"git_url": "https://host/o/r", "branch": "main"}
    assert site_builder.linked("[a](02_noise.ipynb#b)", files, here) == "[a](noise.html#b)"
    assert site_builder.linked("[`a`](../LICENSE)", files, here) == "`a`"
    assert site_builder.linked("[a](../LICENSE)", files, there) == "[a](https://host/o/r/blob/main/LICENSE)"
    assert (
        site_builder.linked("![a](images/a.png) [b](https://e.org)", files, here)
        == "![a](images/a.png) [b](https://e.org)"
    )


def test_dead_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#here">1</a><a href="b.html#gone">2</a><a href="c.html">3</a>')
    (tmp_path / "b.html").write_text('<p id="here"><img src="no.png"><a href="/x">4</a><a href="https://e.org">5</a>')
    assert sorted(site_builder.dead_links(tmp_path)) == [
        "a.html: b.html#gone",
        "a.html: c.html",
        "b.html: /x",
        "b.html: no.png",
    ]


def test_fences_are_longer_than_what_they_hold():
    assert site_builder.fenced("a ``` b", "python") == "```` python\na ``` b\n````"
