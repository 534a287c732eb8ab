"""Insurers: policies (IS01) with terms, contracts, cars, premium, coverages (IS02 to IS05, IS08); policy loans (IS11), pensions (IR01).

A policy has no balance: what it pays out (`face_amt`) and what it costs (`pay_amt`) are details. Names of insured people are not read;
who is insured is a number, and each has contracts (IS03). RULE: pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from msgspec import Meta, Struct

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.industries import irp
from backend.providers.industries.loans import Account, LoanDetail, account_asset, with_facts, with_loan
from backend.providers.payloads import (
    MOST_ROWS,
    Amount,
    Code,
    Count,
    Currency,
    Day,
    Identifier,
    Number,
    Page,
    Status,
    Text,
    details,
    facts,
    masked,
    named,
)
from backend.providers.reading import Detail, Found, Listing, with_more

STATUSES = {"02": Status.ACTIVE, "04": Status.LAPSED}
CAR = "15"  # insu_type of the policies that IS04 knows


class Policy(Struct, frozen=True, kw_only=True):
    """One row of IS01."""

    insu_num: Identifier
    is_consent: bool
    prod_name: Text
    insu_type: Code
    insu_status: Code


class Policies(Page, frozen=True, kw_only=True):
    """Answer of IS01."""

    insu_list: Annotated[tuple[Policy, ...], MOST_ROWS]


class Insured(Struct, frozen=True, kw_only=True):
    """One row of IS02's list, without the name."""

    insured_no: Identifier
    is_primary: bool | None = None


class Terms(Page, frozen=True, kw_only=True):
    """Answer of IS02."""

    issue_date: Day | None = None
    exp_date: Day | None = None
    face_amt: Amount | None = None
    currency_code: Currency | None = None
    is_renewable: bool | None = None
    is_variable: bool | None = None
    is_universal: bool | None = None
    is_loanable: bool | None = None
    pension_rcv_start_date: Day | None = None
    pension_rcv_cycle: Code | None = None
    insured_list: Annotated[tuple[Insured, ...], Meta(max_length=50)] = ()  # each is one more call


class Contract(Struct, frozen=True, kw_only=True):
    """One row of IS03: the main contract, or a rider."""

    contract_name: Text
    contract_status: Code | None = None
    contract_exp_date: Day | None = None
    contract_face_amt: Amount | None = None
    currency_code: Currency | None = None
    is_required: bool | None = None


class Contracts(Page, frozen=True, kw_only=True):
    """Answer of IS03."""

    contract_list: Annotated[tuple[Contract, ...], MOST_ROWS]


class InsuredCar(Struct, frozen=True, kw_only=True):
    """One row of IS04."""

    car_number: Number | None = None
    car_insu_type: Code | None = None
    car_name: Text | None = None
    start_date: Day | None = None
    end_date: Day | None = None
    is_own_dmg_coverage: bool | None = None
    self_pay_rate: Code | None = None
    self_pay_amt: Amount | None = None


class InsuredCars(Page, frozen=True, kw_only=True):
    """Answer of IS04."""

    car_insu_list: Annotated[tuple[InsuredCar, ...], MOST_ROWS]


class Premium(Page, frozen=True, kw_only=True):
    """Answer of IS05."""

    pay_amt: Amount | None = None
    pay_due: Code | None = None
    pay_cycle: Code | None = None
    pay_cnt: Count | None = None
    pay_org_code: Code | None = None
    pay_date: Code | None = None
    pay_end_date: Day | None = None
    is_auto_pay: bool | None = None


class Coverage(Struct, frozen=True, kw_only=True):
    """One row of IS08, without whom it covers."""

    coverage_name: Text
    coverage_code: Code | None = None
    coverage_amt: Amount | None = None
    status: Code | None = None
    start_date: Day | None = None
    end_date: Day | None = None


class Coverages(Page, frozen=True, kw_only=True):
    """Answer of IS08."""

    coverage_list: Annotated[tuple[Coverage, ...], MOST_ROWS]


class PolicyLoans(Page, frozen=True, kw_only=True):
    """Answer of IS11."""

    loan_list: Annotated[tuple[Account, ...], MOST_ROWS]


class PolicyLoanTerms(Page, frozen=True, kw_only=True):
    """Answer of IS12."""

    loan_start_date: Day | None = None
    loan_exp_date: Day | None = None
    repay_method: Code | None = None
    repay_date: Code | None = None
    repay_org_code: Code | None = None
    repay_account_num: Number | None = None
    insu_num: Number | None = None


def found_policies(page: Policies) -> Iterator[Found]:
    """The policies of one page."""
    for policy in page.insu_list:
        if policy.is_consent:
            yield Found(_policy(policy), _wanted(policy))


def found_loans(page: PolicyLoans) -> Iterator[Found]:
    """The loans of one page."""
    for account in page.loan_list:
        if account.is_consent:
            terms = Detail("IS12", account.named, PolicyLoanTerms, with_facts)
            owed = Detail("IS13", account.named, LoanDetail, with_loan)
            yield Found(account_asset(account, AssetKind.LOAN), (owed, terms))


def with_terms(asset: CollectedAsset, answer: Terms) -> CollectedAsset:
    return with_more(asset, facts(answer, "insured_list"))


def with_cars(asset: CollectedAsset, answer: InsuredCars) -> CollectedAsset:
    return with_more(asset, details(cars=answer.car_insu_list))


def with_coverages(asset: CollectedAsset, answer: Coverages) -> CollectedAsset:
    return with_more(asset, details(coverages=answer.coverage_list))


def _wanted(policy: Policy) -> tuple[Detail[Any], ...]:
    known = {"insu_num": policy.insu_num}

    def contracts(terms: Terms) -> Iterator[Detail[Any]]:
        for insured in terms.insured_list:
            yield Detail("IS03", {**known, "insured_no": insured.insured_no}, Contracts, _with_contracts_of(insured))

    return (
        Detail("IS02", known, Terms, with_terms, contracts),
        Detail("IS05", known, Premium, with_facts),
        Detail("IS08", known, Coverages, with_coverages),
        *((Detail("IS04", known, InsuredCars, with_cars),) if policy.insu_type == CAR else ()),
    )


def _with_contracts_of(insured: Insured) -> Callable[[CollectedAsset, Contracts], CollectedAsset]:
    """The answers for several people come in any order; what is shown has one."""

    def with_contracts(asset: CollectedAsset, answer: Contracts) -> CollectedAsset:
        new = [facts(insured) | facts(each) for each in answer.contract_list]
        known = [each for each in asset.details.get("contracts", ()) if each["insured_no"] != insured.insured_no]
        return with_more(asset, details(contracts=sorted([*known, *new], key=lambda each: str(each["insured_no"]))))

    return with_contracts


def _policy(policy: Policy) -> CollectedAsset:
    return CollectedAsset(
        key=f"insurance:{policy.insu_num}",
        kind=AssetKind.INSURANCE,
        name=policy.prod_name,
        number_masked=masked(policy.insu_num),
        status=named(policy.insu_status, STATUSES),
        balance=None,
        details=details(insu_type=policy.insu_type),
    )


LISTINGS = (
    Listing("IS01", Policies, found_policies, kinds=frozenset({AssetKind.INSURANCE})),
    Listing("IS11", PolicyLoans, found_loans, optional=True, kinds=frozenset({AssetKind.LOAN})),
    irp.LISTING,
)
