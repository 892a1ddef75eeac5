"""Five hundred changed inputs of every reader: each is read or refused, clearly and soon. `make fuzz` tries many more."""

import fuzzing
import pytest

COUNT = 500
WHOLE_RUNS = 15  # each in a process of its own


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("reader", list(fuzzing.READERS))
def test_changed_inputs_are_read_or_refused(reader):
    count = WHOLE_RUNS if reader == "command" else COUNT
    failures = fuzzing.fuzz(reader, seed=1, count=count)
    assert not failures, "replay with `cd tests; ../.venv/bin/python -m fuzzing READER --seed S --number N`\n" + "\n".join(
        failures
    )


def test_the_judge_sees_what_is_wrong(tmp_path):
    """A judge that lets everything pass would find nothing above."""
    from dcsim.errors import DcsimError
    from dcsim.reading import reading

    def unclear(_):
        with reading("f", DcsimError):
            raise TypeError("'int' object is not iterable")

    def endless(_):
        while True:
            pass

    def bug(_):
        raise KeyError("k")

    def garbled(_):
        error = DcsimError("f")
        error.args = ("f\x1b[31m",)
        raise error

    path = tmp_path / "f"
    words = {unclear: "last net", endless: "takes more than", bug: "KeyError", garbled: "does not show"}
    for read, word in words.items():
        limit, fuzzing.LIMIT_S = fuzzing.LIMIT_S, 0.2
        try:
            assert word in fuzzing.judge(fuzzing.Reader([], read), path)
        finally:
            fuzzing.LIMIT_S = limit
    assert fuzzing.judge(fuzzing.Reader([], lambda _: None), path) == ""


def test_an_input_is_the_same_for_the_same_seed_and_number():
    reader = fuzzing.READERS["price"]()
    assert fuzzing.make(reader, "price", 3, 7) == fuzzing.make(reader, "price", 3, 7)
    assert len({fuzzing.make(reader, "price", 3, number) for number in range(50)}) > 40
