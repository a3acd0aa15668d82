#!/usr/bin/env python3
"""Computes what must come out of a file of commands, without AXS: a naive model of its rules.

    scripts/oracle.py testdata/demo.commands.jsonl > testdata/demo.expected.json

It reads JSON Lines in the field names of axs.v1.Command and takes the lines one after the other.
Written from the contract (proto/axs/v1/types.proto, ARCHITECTURE.md), decimals in dictionaries, so
that a mistake of the program is not repeated in here. One shard; a REVERSE finds nothing, because
a file cannot know the id of an earlier command. `--asset CODE:SCALE` replaces the usual assets.
"""
import argparse
import json
import re
from decimal import Decimal, getcontext

getcontext().prec = 80
ASSETS = {"USDT": 18, "USDC": 18, "ETH": 18, "XBT": 8, "BTC": 8, "EUR": 2, "USD": 2}
KINDS = {"CHANGE": (1, 64), "TRANSFER": (2, 64), "OPEN_ACCOUNT": (0, 64), "BLOCK_ACCOUNT": (0, 0),
         "UNBLOCK_ACCOUNT": (0, 0), "CLOSE_ACCOUNT": (0, 0), "REVERSE": (0, 0)}
MOVE = {"asset": str, "available_delta": str, "frozen_delta": str}
FIELDS = {
    "": {"idempotency_key": str, "source": str, "account_id": int, "kind": str, "changes": list, "reference": str,
         "created_at": str, "user_id": int, "reverses": int, "shard_id": int},
    "change": dict(MOVE, account_id=int, fallback=dict, condition=dict),
    "fallback": MOVE,
    "condition": {"version": int, "min_available": str},
}
LIMIT = 10**38 - 1


class Invalid(Exception):
    """The line is refused and nothing of it is kept."""


class Rejected(Exception):
    """The command is decided: it does not happen, for ever."""


def need(holds):
    if not holds:
        raise Invalid


def shortest(amount):
    text = format(amount, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def fields(message, source):
    """The object's fields with defaults; integers may come as strings."""
    known, out = FIELDS[message], {}
    need(isinstance(source, dict))
    for name, value in source.items():
        need(name in known)
        if value is None:
            continue
        if known[name] is int:
            need(type(value) is int or isinstance(value, str) and re.fullmatch("[0-9]+", value))
            value = int(value)
            need(0 <= value < 2**64)
        need(isinstance(value, known[name]))
        out[name] = value
    return out


class Oracle:
    def __init__(self, assets):
        self.assets = assets
        self.routed, self.status, self.balances, self.keys = set(), {}, {}, {}

    def submit(self, line):
        try:
            command = self.read(line)
        except Invalid:
            return {"error": "INVALID"}
        key = command["source"], command["idempotency_key"]
        body = {name: value for name, value in command.items() if name != "created_at"}
        if key in self.keys:
            first, outcome = self.keys[key]
            return dict(outcome, duplicate=True) if first == body else {"error": "IDEMPOTENCY_CONFLICT"}
        if command["kind"] == "OPEN_ACCOUNT":
            self.routed.add(command["account_id"])
        if not self.accounts(command) <= self.routed:
            return {"error": "ACCOUNT_NOT_FOUND"}
        saved = dict(self.balances), dict(self.status)
        try:
            self.apply(command)
            outcome = {"status": "APPLIED"}
        except Rejected as rejected:
            self.balances, self.status = saved
            outcome = {"status": "REJECTED", "reject_code": str(rejected)}
        self.keys[key] = body, outcome
        return outcome

    # -- shape

    def read(self, line):
        try:
            source = json.loads(line)
        except ValueError:
            raise Invalid from None
        c = dict({"changes": [], "reference": "", "account_id": 0, "reverses": 0, "user_id": 0}, **fields("", source))
        need(len(line.encode()) <= 32 * 1024)
        for name, least, most in (("source", 1, 64), ("idempotency_key", 1, 128), ("reference", 0, 128)):
            text = c.get(name, "")
            need(least <= len(text.encode()) <= most and not re.search("[\x00-\x1f\x7f-\x9f]", text))
        need(1 <= c["account_id"] < 2**62)
        c["kind"] = c.get("kind", "").removeprefix("COMMAND_KIND_")
        need(c["kind"] in KINDS)
        opens = c["kind"] == "OPEN_ACCOUNT"
        need(opens or not c["user_id"] and "shard_id" not in c)
        need((c["kind"] == "REVERSE") == (c["reverses"] != 0))
        need(c["reverses"] == 0 or c["reverses"] >> 48 < 1024 and c["reverses"] & (2**48 - 1))
        least, most = KINDS[c["kind"]]
        need(least <= len(c["changes"]) <= most)
        c["changes"] = [self.change(one, c["account_id"]) for one in c["changes"]]
        need(not opens or self.accounts(c) == {c["account_id"]})
        if c["kind"] == "TRANSFER":
            sums = {}
            for account, (asset, available, frozen), fallback, _ in c["changes"]:
                need(fallback is None)
                sums[asset] = sums.get(asset, 0) + available + frozen
            need(not any(sums.values()))
        return c

    def change(self, source, own):
        c = fields("change", source)
        account = c.get("account_id", 0) or own
        need(account < 2**62)
        fallback = self.move(fields("fallback", c["fallback"])) if "fallback" in c else None
        condition = fields("condition", c.get("condition", {}))
        primary = self.move(c)
        minimum = condition.get("min_available")
        if minimum is not None:
            minimum = self.amount(minimum, primary[0])
        return account, primary, fallback, (condition.get("version"), minimum)

    def move(self, source):
        asset = source.get("asset")
        need(asset in self.assets)
        deltas = (source.get(name) or "0" for name in ("available_delta", "frozen_delta"))
        return (asset, *(self.amount(delta, asset) for delta in deltas))

    def amount(self, text, asset):
        scale = self.assets[asset]
        fraction = rf"(\.[0-9]{{1,{scale}}})?" if scale else ""
        need(re.fullmatch("-?[0-9]{1,20}" + fraction, text, re.ASCII))
        return Decimal(text) + 0

    # -- rules, in their order

    @staticmethod
    def accounts(command):
        return {command["account_id"]} | {account for account, *_ in command["changes"]}

    def apply(self, c):
        kind, own = c["kind"], c["account_id"]
        if kind == "OPEN_ACCOUNT":
            self.refuse(own in self.status, "ACCOUNT_EXISTS")
            self.status[own] = "OPEN"
        for account in self.accounts(c):
            self.refuse(account not in self.status, "ACCOUNT_NOT_FOUND")
        self.refuse(kind == "REVERSE", "NOTHING_TO_REVERSE")
        for account in [own] + [account for account, *_ in c["changes"]]:
            self.refuse(self.status[account] == "CLOSED", "ACCOUNT_CLOSED")
            blocks = kind in ("BLOCK_ACCOUNT", "UNBLOCK_ACCOUNT")
            self.refuse(self.status[account] == "BLOCKED" and not blocks, "ACCOUNT_BLOCKED")
        if kind == "CLOSE_ACCOUNT":
            held = (b for (account, _), b in self.balances.items() if account == own)
            self.refuse(any(available or frozen for available, frozen, _ in held), "ACCOUNT_NOT_EMPTY")
        ends = {"BLOCK_ACCOUNT": "BLOCKED", "UNBLOCK_ACCOUNT": "OPEN", "CLOSE_ACCOUNT": "CLOSED"}
        self.status[own] = ends.get(kind, self.status[own])
        for account, primary, fallback, (version, minimum) in c["changes"]:
            available, _, current = self.balances.get((account, primary[0]), (0, 0, 0))
            self.refuse(version is not None and version != current, "VERSION_MISMATCH")
            self.refuse(minimum is not None and available < minimum, "BELOW_MINIMUM")
            try:
                self.take(account, primary)
            except Rejected as short:
                if fallback is None or not str(short).startswith("INSUFFICIENT"):
                    raise
                try:
                    self.take(account, fallback)
                except Rejected:
                    raise short from None

    def take(self, account, move):
        asset, *deltas = move
        available, frozen, version = self.balances.get((account, asset), (Decimal(0), Decimal(0), 0))
        available, frozen = available + deltas[0], frozen + deltas[1]
        limit = Decimal(LIMIT).scaleb(-self.assets[asset])
        self.refuse(max(abs(available), abs(frozen)) > limit, "AMOUNT_OVERFLOW")
        self.refuse(available < 0, "INSUFFICIENT_AVAILABLE")
        self.refuse(frozen < 0, "INSUFFICIENT_FROZEN")
        self.balances[account, asset] = available, frozen, version + 1

    @staticmethod
    def refuse(holds, code):
        if holds:
            raise Rejected(code)


def label(outcome):
    text = outcome.get("error") or ":".join([outcome["status"]] + [outcome[k] for k in ("reject_code",) if k in outcome])
    return ("DUPLICATE " if outcome.get("duplicate") else "") + text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands")
    parser.add_argument("--asset", action="append", metavar="CODE:SCALE")
    options = parser.parse_args()
    given = (asset.split(":") for asset in options.asset or [])
    oracle = Oracle({code: int(scale) for code, scale in given} or ASSETS)
    with open(options.commands, encoding="utf-8", newline="\n") as file:
        outcomes = [oracle.submit(line.rstrip("\n")) for line in file]
    counts, totals, balances = {}, {}, []
    for outcome in outcomes:
        counts[label(outcome)] = counts.get(label(outcome), 0) + 1
    for (account, asset), (available, frozen, version) in sorted(oracle.balances.items()):
        totals[asset] = totals.get(asset, 0) + available + frozen
        balances.append({"account_id": account, "asset": asset, "available": shortest(available),
                         "frozen": shortest(frozen), "version": version})
    used = {asset: scale for asset, scale in oracle.assets.items() if asset in totals}
    print(json.dumps({"assets": used, "lines": len(outcomes), "counts": counts,
                      "totals": {asset: shortest(totals[asset]) for asset in used},
                      "balances": balances, "outcomes": outcomes}, indent=0))


if __name__ == "__main__":
    main()
