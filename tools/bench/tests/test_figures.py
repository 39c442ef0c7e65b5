"""From what wrk printed and what was sampled to the figures of the table."""

from __future__ import annotations

import json

import pytest

from tools.bench import load, machine, report
from tools.bench.cli import main
from tools.bench.errors import RowError
from tools.bench.results import Result, Sample
from tools.bench.rows import ROWS, Goal, Row, together

PRINTED = (
    "Running 1s test @ http://127.0.0.1:8000/\n"
    'bench-result {"requests": 1000, "duration_us": 2000000, "p50_us": 400, "p99_us": 900, '
    '"bytes": 1200000, "connect": 0, "read": 2, "write": 0, "status": 0, "timeout": 0}\n'
)

PLAIN = ROWS[0]


def sample(cpu_us: float, foreign_share: float = 0.0, **errors: int) -> Sample:
    return Sample(cpu_us, 0.9, foreign_share, 50_000.0, 400.0, 900.0, errors)


def result(peer: str, *cpu_us: float) -> Result:
    return Result(peer, "1.0", samples=[sample(value) for value in cpu_us], rounds=len(cpu_us))


def test_wrk_result_is_read_with_its_errors() -> None:
    seen = load.parse_wrk(PRINTED)
    assert seen == load.Load(1000, 2.0, 400, 900, 1200.0, {"read": 2})


def test_wrk_without_a_result_is_an_error_with_its_words() -> None:
    with pytest.raises(RowError, match="unable to connect"):
        load.parse_wrk("unable to connect to 127.0.0.1:8000 Connection refused")


def test_round_in_which_every_answer_was_an_error_is_no_figure() -> None:
    with pytest.raises(RowError, match="no request succeeded"):
        load.parse_wrk(PRINTED.replace('"status": 0', '"status": 1000'))


def test_figure_is_the_median_of_the_quietest_rounds_not_of_the_fastest() -> None:
    noisy_but_fast = sample(1.0, foreign_share=0.5)
    found = Result("x", "1", samples=[noisy_but_fast, sample(16), sample(18), sample(17)], rounds=3)
    figure = found.cpu_us
    assert figure is not None
    assert (figure.median, figure.lowest, figure.highest) == (17, 16, 18)


def test_noisy_rounds_are_run_again_until_enough_are_quiet() -> None:
    found = Result("x", "1", samples=[sample(16), sample(17, foreign_share=0.3)], rounds=2)
    assert not found.settled
    found.samples.append(sample(17))
    assert found.settled


def test_ratio_is_ours_by_theirs_and_ours_has_none() -> None:
    ours, theirs = report.cells(PLAIN, [result("pipy", 20, 22, 21), result("nginx", 14, 14, 14)])
    column = report.columns(PLAIN).index("ours/peer")
    assert (ours[column], theirs[column]) == ("", "1.50")


def test_peer_without_figures_says_why() -> None:
    missing = Result("Envoy", "missing", problem="no envoy found")
    assert report.cells(PLAIN, [missing]) == [["Envoy", "no envoy found"]]


def test_failed_requests_are_counted_over_all_rounds() -> None:
    found = Result("x", "1", samples=[sample(1, read=2), sample(1, timeout=1)], rounds=2)
    assert report.cells(PLAIN, [found])[0][-1] == "3"


def test_goal_is_met_missed_or_not_measured() -> None:
    goal = Goal("plain", "nginx", 1.0)
    assert report.goal_line(goal, 0.9).endswith("0.90, met")
    assert report.goal_line(goal, 1.1).endswith("1.10, MISSED")
    assert report.goal_line(goal, None).endswith("not measured")


def test_goals_of_rows_that_were_not_run_are_left_out() -> None:
    reached = report.goals([(PLAIN, [result("pipy", 10), result("nginx", 20)])])
    assert {goal.row for goal, _ in reached} == {"plain"}
    assert all(ratio == 0.5 for _, ratio in reached)


def test_rows_that_a_goal_compares_are_measured_together() -> None:
    by_name = {row.name: row for row in ROWS}
    chosen = [by_name[name] for name in ("plain", "pair", "tcp", "pair-log")]
    names = [[row.name for row in group] for group in together(chosen)]
    assert names == [["plain"], ["pair", "pair-log"], ["tcp"]]


def test_goals_that_share_a_row_bring_all_their_rows_together() -> None:
    by_name = {row.name: row for row in ROWS}
    chosen = [by_name[name] for name in ("pair-h2", "plain", "pair-log", "pair", "plain-services")]
    names = [[row.name for row in group] for group in together(chosen)]
    assert names == [["pair-h2", "pair-log", "pair"], ["plain", "plain-services"]]


def test_memory_is_under_its_ceiling_over_it_or_not_measured() -> None:
    ours = result("pipy", 10)
    [(ceiling, taken)] = report.ceilings([(PLAIN, [ours])])
    assert taken is None
    assert report.ceiling_line(ceiling, taken).endswith("not measured")
    assert report.missed([(PLAIN, [ours])])
    for idle_bytes, word in ((9 << 20, "met"), (11 << 20, "MISSED")):
        ours.idle_bytes = idle_bytes
        [(ceiling, taken)] = report.ceilings([(PLAIN, [ours])])
        assert report.ceiling_line(ceiling, taken).endswith(word)
        outcomes = [(PLAIN, [ours, result("nginx", 20)])]
        assert report.missed(outcomes) == (word == "MISSED")
    ours.problem = "it has ended"
    assert report.ceilings([(PLAIN, [ours])]) == [(ceiling, None)]


def test_json_has_every_sample_and_markdown_every_peer() -> None:
    here = machine.Machine("CPU", 2, 4096, "6.1", "none", 0.1)
    outcomes = [(PLAIN, [result("pipy", 10, 12), Result("Envoy", "missing", problem="not here")])]
    found = {"pipy": "not looked for", "Envoy": "not here"}
    document = json.loads(report.to_json(here, found, outcomes))
    assert [s["cpu_us"] for s in document["rows"][0]["results"][0]["samples"]] == [10, 12]
    markdown = report.to_markdown(here, found, outcomes)
    assert "| pipy | 11.0 |" in markdown
    assert "- Envoy: not here" in markdown


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_can_be_written_as_json(row: Row) -> None:
    here = machine.Machine("CPU", 2, 4096, "6.1", "none", 0.1)
    document = json.loads(report.to_json(here, {}, [(row, [result("pipy", 10)])]))
    assert document["rows"][0]["row"]["name"] == row.name


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--rows", "plain,typo"], "'typo' is no row"),
        (["--peers", "apache"], "'apache' is no peer"),
        (["--rounds", "0"], "0 is less than 1"),
    ],
)
def test_wrong_flags_are_named(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(flags)
    assert exited.value.code == 2
    assert words in capsys.readouterr().err
