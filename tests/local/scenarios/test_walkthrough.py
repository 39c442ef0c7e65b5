"""The reader of READMEs itself: what counts as a command, and what as the promised outcome."""

from __future__ import annotations

from pathlib import Path

import pytest
from walkthrough import readme
from walkthrough.typist import Typist

TEXT = """\
# Title

$ not a command

```sh
$ neither
```

```console
$ one \\
> and on
first
> not a command

last
$ two
command terminated with exit code 7
$ three
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "README.md"
    file.write_text(TEXT)
    return file


def test_commands_are_the_dollar_lines_of_console_blocks(page: Path) -> None:
    steps = readme.read(page)
    assert [s.command for s in steps] == ["one \\\nand on", "two", "three"]
    assert steps[0].shows == ("first", "> not a command", "", "last")
    assert [s.exit_code for s in steps] == [0, 7, 0]


@pytest.mark.parametrize(
    ("shows", "output", "fits"),
    [
        ("a", "a", True),
        ("a", "a b", False),
        ("a", "b\na", False),
        ("a", "", False),
        ("a...c", "a b c", True),
        ("10....", "10.96.0.1", True),
        ("10....", "11.96.0.1", False),
        ("...\nb", "a\nb", True),
        ("...\nb", "b", True),
        ("...\nb", "b\nc", False),
        ("a\n...", "a\nb\nc", True),
        ("a\n...\nc", "a\nc", True),
        ("a\n...\nc", "a\nb", False),
        ("x   y", "x y", True),
        ("a.c", "abc", False),
        ("a", "Unable to use a TTY - input is not a terminal\na", True),
        ("", "whatever", True),
    ],
)
def test_outcomes_fit_or_do_not(shows: str, output: str, fits: bool) -> None:
    step = readme.Step(1, "x", tuple(shows.splitlines()), 0)
    assert step.fits(output, 0) is fits
    assert not step.fits(output, 1)


def test_shell_keeps_variables_and_tells_exit_codes(tmp_path: Path) -> None:
    typist = Typist(tmp_path, {"PATH": "/usr/bin:/bin"})
    try:
        assert typist.type("A=1; cd /") == ("", 0)
        assert typist.type('echo "$A $PWD"; cat') == ("1 /\n", 0)
        assert typist.type("(exit 5)")[1] == 5
        with pytest.raises(AssertionError, match="promised"):
            typist.follow(readme.Step(3, "echo no", ("yes",), 0))
    finally:
        typist.close()
