#!/usr/bin/env python3
"""Makes testdata/content_hash.json: commands as JSON, and the hashes that they must have.

    scripts/content_hash.py > testdata/content_hash.json

It follows the description in src/core/command/hash.rs and builds every byte by hand: no protobuf
library, nothing of the program under test. Run it again only to add vectors: those that stand are
the contract with every database that holds commands.
"""
import hashlib
import json
import struct
from decimal import Decimal, getcontext

getcontext().prec = 60
ASSETS = {"USDT": (1, 18), "XBT": (2, 8), "YEN": (3, 0)}  # code: (id, scale)
KINDS = ["CHANGE", "TRANSFER", "OPEN_ACCOUNT", "BLOCK_ACCOUNT", "UNBLOCK_ACCOUNT", "CLOSE_ACCOUNT", "REVERSE"]


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def number(tag, value):
    return varint(tag << 3) + varint(value)


def block(tag, content):
    return varint(tag << 3 | 2) + varint(len(content)) + content


def amount(units):
    if -(2**63) <= units < 2**63:
        return number(1, units * 2 if units >= 0 else -units * 2 - 1)
    return block(2, units.to_bytes(16, "little", signed=True))


def minor_units(text, scale):
    return int(Decimal(text or "0").scaleb(scale).to_integral_exact())


def move(source):
    asset, scale = ASSETS[source["asset"]]
    out = number(1, asset)
    for tag, name in ((2, "available_delta"), (3, "frozen_delta")):
        units = minor_units(source.get(name), scale)
        if units:
            out += block(tag, amount(units))
    return out


def change(source, own):
    out = number(1, source.get("account_id") or own) + block(2, move(source))
    if "fallback" in source:
        out += block(3, move(source["fallback"]))
    condition = source.get("condition", {})
    if "version" in condition:
        out += number(4, condition["version"])
    if "min_available" in condition:
        out += block(5, amount(minor_units(condition["min_available"], ASSETS[source["asset"]][1])))
    return out


def body(c):
    out = b"\x01" + block(3, c["source"].encode()) + block(4, c["idempotency_key"].encode())
    out += number(5, c["account_id"]) + number(6, KINDS.index(c["kind"]) + 1)
    for one in c.get("changes", []):
        out += block(7, change(one, c["account_id"]))
    if c.get("reference"):
        out += block(8, c["reference"].encode())
    for tag, name in ((11, "user_id"), (12, "reverses")):
        if c.get(name):
            out += number(tag, c[name])
    if "shard_id" in c:
        out += number(14, c["shard_id"])
    return out


def digest(*parts):
    joined = b"".join(struct.pack("<I", len(part)) + part for part in parts)
    return hashlib.sha256(joined).hexdigest()[:32]


def command(kind, changes=None, **more):
    out = {"source": "matching", "idempotency_key": "order-1", "account_id": 1001, "kind": kind}
    if changes is not None:
        out["changes"] = changes
    return dict(out, **more)


def usdt(available, frozen="", **more):
    return dict({"asset": "USDT", "available_delta": available, "frozen_delta": frozen}, **more)


BIG = "99999999999999999999.999999999999999999"
VECTORS = {
    "credit": command("CHANGE", [usdt("1")]),
    "credit, the same body in other words": command(
        "CHANGE", [usdt("01.00", "-0", account_id=1001)], created_at="2026-01-31T23:59:59.5Z"),
    "freeze": command("CHANGE", [usdt("-12.5", "12.5")], reference="trade-7"),
    "a change of zero": command("CHANGE", [usdt("0", "0")]),
    "greatest amounts": command("CHANGE", [usdt(BIG, "-" + BIG)]),
    "edges of 64 bits": command("CHANGE", [
        usdt("9.223372036854775807", "-9.223372036854775808"),
        usdt("9.223372036854775808", "-9.223372036854775809")]),
    "fallback and conditions": command("CHANGE", [
        {"asset": "XBT", "available_delta": "-0.00000001", "fallback": usdt("-0.01"),
         "condition": {"version": 300, "min_available": "21000000"}},
        {"asset": "YEN", "frozen_delta": "-7", "condition": {"version": 0, "min_available": "0"}}]),
    "transfer of several accounts": command("TRANSFER", [
        usdt("-3"), usdt("1", account_id=2**62 - 1), usdt("", "2", account_id=7)]),
    "sixty-four changes": command("CHANGE", [usdt(str(n)) for n in range(64)]),
    "open": command("OPEN_ACCOUNT", [], user_id=2**64 - 1),
    "open with opening balances, pinned to shard 0": command(
        "OPEN_ACCOUNT", [usdt("10000000"), {"asset": "XBT", "available_delta": "1000"}], user_id=7, shard_id=0),
    "open pinned to shard 3": command("OPEN_ACCOUNT", shard_id=3),
    "block": command("BLOCK_ACCOUNT"),
    "unblock": command("UNBLOCK_ACCOUNT"),
    "close": command("CLOSE_ACCOUNT"),
    "reverse": command("REVERSE", reverses=3 << 48 | 41),
    "texts beyond ASCII and of two-byte lengths": dict(
        command("CHANGE", [usdt("1")], reference="é" * 64), source="börse", idempotency_key="k" * 128),
    "source and key are told apart": dict(command("BLOCK_ACCOUNT"), source="matchingo", idempotency_key="rder-1"),
}


def main():
    vectors = [{"name": name, "command": c,
                "key_hash": digest(c["source"].encode(), c["idempotency_key"].encode()),
                "content_hash": digest(c["source"].encode(), c["idempotency_key"].encode(), body(c))}
               for name, c in VECTORS.items()]
    assets = [{"code": code, "id": at, "scale": scale} for code, (at, scale) in ASSETS.items()]
    print(json.dumps({"assets": assets, "vectors": vectors}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
