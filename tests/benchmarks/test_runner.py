"""The benchmarks' runner: what is run in which order, how figures come about, what a page says."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from benchmarks.__main__ import main
from benchmarks.arrivals import Arrival, offered, offsets, paced
from benchmarks.calls import Call, Shown, by_user, timeline
from benchmarks.catalogue import BENCHMARKS
from benchmarks.figures import figure, median, percentile
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant
from benchmarks.pages import Page, load, markdown, save, terminal
from benchmarks.running import run

PLAN = Plan(rounds=3, seconds=1, warm_up=0, rate=10, seed=7)


class Stage:
    """Remembers who ran on it; its variants' figures grow by the round."""

    def __init__(self) -> None:
        self.ran: list[tuple[int, str, int]] = []
        self.open = False

    async def __aenter__(self) -> Stage:
        self.open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open = False

    def variant(self, name: str, base: float) -> Variant[Stage]:
        async def deed(on: Stage, each: Round) -> Samples:
            assert on.open
            on.ran.append((each.number, each.variant, each.seed))
            return {"time": [base * each.number] * 5}

        return Variant(name=name, about=f"takes {base:g}", run=deed)

    def benchmark(self, *aims: Aim) -> Benchmark[Stage]:
        columns = (Column("time p50", "time", Statistic.P50), Column("never", "nothing", Statistic.P99))
        return Benchmark(
            name="example",
            title="An example",
            about=("Is it quick?",),
            stage=lambda: self,
            variants=(self.variant("old", 100), self.variant("new", 2)),
            tables=(Table(title="Times", columns=columns, about=("In milliseconds.",)),),
            plan=PLAN,
            quick=msgspec.structs.replace(PLAN, rounds=1),
            aims=aims,
        )


def aim(most: float) -> Aim:
    return Aim(variant="new", table="Times", column="time p50", most=most)


async def page_of(benchmark: Benchmark[Stage], plan: Plan = PLAN) -> Page:
    return await run(benchmark, plan, machine={"cores": "2 of a kind"}, quick=False, tell=lambda _: None)


@pytest.mark.parametrize(("percent", "sample"), [(0, 1), (1, 1), (50, 5), (90, 9), (91, 10), (99, 10), (100, 10)])
def test_a_percentile_is_a_sample_that_so_many_do_not_exceed(percent: float, sample: float) -> None:
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == sample


def test_without_samples_there_is_no_figure() -> None:
    assert [figure([], statistic) for statistic in Statistic] == [None, None, None, None, 0.0]
    assert median([]) is None


async def test_rounds_of_all_variants_are_interleaved_and_meet_the_same_arrivals() -> None:
    stage = Stage()
    await page_of(stage.benchmark())
    assert stage.ran == [(number, variant, 7 + number) for number in (1, 2, 3) for variant in ("old", "new")]
    assert not stage.open


async def test_a_figure_is_the_median_over_rounds_with_its_spread() -> None:
    cell = (await page_of(Stage().benchmark())).tables[0].lines[1].cells[0]
    assert (cell.rounds, cell.median, cell.least, cell.most) == ((2, 4, 6), 4, 2, 6)


@pytest.mark.parametrize(("most", "met"), [(4, True), (3.9, False)])
async def test_an_aim_is_met_by_the_median_alone(most: float, met: bool) -> None:
    assert [verdict.met for verdict in (await page_of(Stage().benchmark(aim(most)))).verdicts] == [met]


@pytest.mark.parametrize(("least", "met"), [(4, True), (4.1, False)])
async def test_an_aim_may_be_a_lower_bound(least: float, met: bool) -> None:
    wanted = Aim(variant="new", table="Times", column="time p50", least=least)
    page = await page_of(Stage().benchmark(wanted))
    assert [verdict.met for verdict in page.verdicts] == [met]
    assert f"| new: time p50 | >= {'4' if met else '4.10'} ms | 4 |" in markdown(page)


@pytest.mark.parametrize(("most", "met"), [(0.02, True), (0.01, False)])
async def test_an_aim_may_be_a_ratio_to_another_variant_in_the_same_round(most: float, met: bool) -> None:
    wanted = Aim(variant="new", table="Times", column="time p50", most=most, over="old")
    page = await page_of(Stage().benchmark(wanted))
    assert [(verdict.measured, verdict.met) for verdict in page.verdicts] == [(0.02, met)]
    assert f"| new: time p50, over old | <= {most:.2f} x | 0.02 |" in markdown(page)


async def test_an_aim_for_what_is_not_shown_is_a_mistake() -> None:
    with pytest.raises(LookupError):
        await page_of(Stage().benchmark(Aim(variant="new", table="Elsewhere", column="time p50", most=1)))


async def test_the_page_is_made_from_its_json_alone(tmp_path) -> None:
    page = await page_of(Stage().benchmark(aim(3)))
    record, shown = save(page, tmp_path)
    text = shown.read_text(encoding="utf-8")
    assert load(record) == page
    assert markdown(load(record)) == text
    assert "| new | 4 [2-6] | - |" in text
    assert "| new: time p50 | <= 3 ms | 4 | **missed** |" in text
    assert "seed 7" in text
    assert "4 [2-6]" in terminal(page)


def test_a_quick_run_writes_nothing_unless_told_where(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.__main__.RESULTS", tmp_path / "results")
    assert main(["example", "--quick"], {"example": Stage().benchmark(aim(1))}) == 0
    assert list(tmp_path.iterdir()) == []
    assert main(["--quick", "--results", str(tmp_path)], {"example": Stage().benchmark(aim(1))}) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"example.json", "example.md"}
    assert "too short to rely on" in (tmp_path / "example.md").read_text(encoding="utf-8")
    assert "An example" in capsys.readouterr().out


def test_a_whole_run_fails_when_an_aim_is_missed(tmp_path) -> None:
    assert main(["--results", str(tmp_path)], {"example": Stage().benchmark(aim(1))}) == 1


def test_a_name_that_nobody_knows_is_a_usage_error(capsys) -> None:
    assert main(["exmaple"], {"example": Stage().benchmark()}) == 2
    assert capsys.readouterr().err == "no such benchmark: exmaple; there are: example\n"


def test_every_aim_of_the_catalogue_names_a_column_that_is_shown() -> None:
    for benchmark in BENCHMARKS.values():
        shown = {(table.title, column.title) for table in benchmark.tables for column in table.columns}
        assert {(each.table, each.column) for each in benchmark.aims} <= shown
        named = {name for each in benchmark.aims for name in (each.variant, each.over) if name is not None}
        assert named <= {variant.name for variant in benchmark.variants}


def test_arrivals_are_the_same_for_the_same_seed_and_as_many_as_the_rate_says() -> None:
    moments = offsets(50, 100, seed=1)
    assert offsets(50, 100, seed=1) == moments
    assert offsets(50, 100, seed=2) != moments
    assert moments == sorted(moments)
    assert moments[0] > 0
    assert moments[-1] < 100
    assert 4700 < len(moments) < 5300


async def test_a_paced_load_does_not_wait_for_what_it_began() -> None:
    running: list[int] = []
    together = asyncio.Event()

    async def deed(number: int) -> None:
        running.append(number)
        if len(running) == 3:
            together.set()
        await together.wait()

    late = await paced([0.0, 0.001, 0.002], deed)
    assert running == [0, 1, 2]
    assert len(late) == 3
    assert all(0 <= each < 1 for each in late)


async def test_each_arrival_is_a_person_of_its_own_and_the_warm_up_does_not_count(monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.arrivals.LEAD_SECONDS", 0.0)  # else each arrival waits for a real second

    async def deed(arrival: Arrival) -> str:
        return arrival.user

    plan = Plan(rounds=1, seconds=0.1, warm_up=0.1, rate=200)
    came = await offered(Round(number=1, variant="new", plan=plan), deed)
    assert len({user for _, user in came}) == len(came) > 10
    assert [arrival.counts for arrival, _ in came] == sorted(arrival.counts for arrival, _ in came)
    assert {arrival.counts for arrival, _ in came} == {False, True}


def call(at_ms: float, ms: float, org_code: str, path: str, api_code: str | None = None, rsp_code: str | None = None) -> Call:
    return Call(at=at_ms / 1000, ms=ms, org_code=org_code, path=path, api_code=api_code, rsp_code=rsp_code, status=200, user="alice")


SIGNING = [
    call(0, 50, "CA", "/v1/ca/sign_request", rsp_code="00000"),
    call(250, 50, "CA", "/v1/ca/sign_result", rsp_code="10001"),
    call(500, 60, "CA", "/v1/ca/sign_result", rsp_code="00000"),
]
READING = [
    call(570, 30, "CARD", "/CARD/oauth/2.0/token"),
    call(565, 80, "BANK", "/BANK/oauth/2.0/token"),
    call(602, 10, "CARD", "/CARD/v1/card/points", "CD11"),
    call(602, 40, "CARD", "/CARD/v1/card/cards", "CD01"),
    call(650, 20, "BANK", "/BANK/v1/bank/accounts", "BA01"),
    call(680, 99, "BANK", "/BANK/v1/bank/accounts/deposit/detail", "BA03"),
]


def test_the_critical_path_is_token_and_first_list_with_an_asset_of_the_fastest_provider() -> None:
    shown = [Shown("BANK", "deposit", 0.681), Shown("CARD", "card", 0.645)]  # the points' list was first, and empty
    line = timeline(SIGNING + READING, shown, approve_after_ms=300)
    assert line is not None
    figures = {name: value for name, value in msgspec.structs.asdict(line).items() if name != "over_own_path"}
    assert figures == pytest.approx(
        {
            "approval_to_answer": 210,  # signed at 350, told at 560
            "ca_answer": 60,
            "critical_path": 70,
            "over_critical_path": 645 - 560 - 70,
            "answer_to_token": 10,
            "token_to_list": 2,
            "list_to_client": 3,
        }
    )
    assert sorted(line.over_own_path) == pytest.approx([15, 21])


def test_without_a_signature_or_an_asset_there_is_no_critical_path() -> None:
    assert timeline(SIGNING[:2] + READING, [Shown("CARD", "card", 0.645)], approve_after_ms=300) is None
    assert timeline(SIGNING + READING, [], approve_after_ms=300) is None


def test_calls_that_belong_to_nobody_are_left_out() -> None:
    nobody = Call(at=0, ms=1, org_code="CA", path="/oauth/2.0/token", status=200)
    assert by_user([nobody, *SIGNING]) == {"alice": SIGNING}
