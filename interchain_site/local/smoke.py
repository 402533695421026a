"""`bin/run --smoke`: a whole site of its own, the main job done once over HTTP, a receipt; non-zero at the first wrong step."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account
from eth_account.messages import encode_defunct

from interchain_site.local import images, journey
from interchain_site.local.journey import Wrong, check, until
from interchain_site.local.site import Site, running_site
from interchain_site.local.steps import Steps, Stop
from interchain_site.local.web import PageError, Person

QUICK = {
    "CHARGE_INTERVAL_SECONDS": "3",
    "EPOCH_SECONDS": "10",
    "EARNINGS_HOLD_SECONDS": "3",
    "READING_INTERVAL_SECONDS": "2",
    "SETTLEMENT_ROUND_SECONDS": "2",
}
USD = "5000"  # compute is dear under Table 3: about 100 USD for a second of a processor
APP = images.WEBSITE
METERS = ("transfer", "storage", "compute", "uptime", "active_user")
SMALLEST = Decimal("0.000000001")


@dataclass
class Receipt:
    """What happened, in the order it is printed."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def add(self, what: str, value: object) -> None:
        self.lines.append((what, str(value)))

    def __str__(self) -> str:
        width = max(len(what) for what, _ in self.lines)
        return "\n".join(["", "Receipt", *(f"  {what:<{width}}  {value}" for what, value in self.lines)])


def main(steps: Steps) -> int:
    """Run the smoke test after the machine is set up; return the exit code."""
    trouble: list[str] = []
    with tempfile.TemporaryDirectory(prefix="interchain-images-") as folder:
        steps.do("Image of the website app", lambda: images.archive(APP, Path(folder)).name)
        try:
            with running_site(settings=QUICK, say=trouble.append, steps=steps) as site:
                receipt = job(site, steps, Path(folder) / f"{APP.slug}.tar")
        except (Wrong, PageError, Stop, httpx.HTTPError) as error:
            print(f"\nSmoke failed at step {steps.number}: {error}", file=sys.stderr)
            print("\n".join(f"  {line}" for line in trouble[-10:]), file=sys.stderr)
            return 1
    print(receipt)
    print("\n".join(["", *(f"Note: {line}" for line in trouble), f"All of it took {steps.seconds:.0f} s."]))
    return 0


def job(site: Site, steps: Steps, archive: Path) -> Receipt:
    """Do the main job once: buy, deploy, use, pay, earn, settle, claim."""
    receipt = Receipt()
    people: dict[str, Person] = {}
    slug = f"cafe-{secrets.token_hex(3)}"
    steps.do(
        "Sign-up, verification mail, login: publisher",
        lambda: people.update(publisher=journey.sign_up(site, "publisher")),
    )
    steps.do("Sign-up, verification mail, login: owner", lambda: people.update(owner=journey.sign_up(site, "owner")))
    publisher, owner = people["publisher"], people["owner"]
    with publisher, owner:
        steps.do("NTC bought by card", lambda: _bought(publisher, receipt))
        steps.do("Device enrolled and online", lambda: journey.lend(site, owner))
        steps.do("App registered, archive uploaded", lambda: journey.publish(publisher, APP, archive, slug))
        steps.do("App deployed", lambda: _deployed(site, publisher, slug, receipt))
        steps.do("Traffic, all five meters", lambda: _used(site, publisher, slug))
        steps.do("App deleted, its data wiped, charged to the end", lambda: _charged(publisher, owner, slug, receipt))
        account = Account.create()
        steps.do("Owner's wallet linked by signature", lambda: link_wallet(owner, account))
        steps.do("Epoch settled on Ethereum", lambda: _settled(owner, receipt))
        steps.do("Owner claims", lambda: _claimed(site, owner, account.address, receipt))
    return receipt


def _bought(publisher: Person, receipt: Receipt) -> str:
    bought = journey.buy(publisher, USD)
    receipt.add("bought", f"{bought:,.9f} NTC for {USD} USD")
    return f"{bought:,.0f} NTC"


def _deployed(site: Site, publisher: Person, slug: str, receipt: Receipt) -> str:
    seconds = journey.deploy(site, publisher, slug)
    check("Harbour" in journey.visit(site, slug).text, "The gateway's 200 is not the website's page.")
    receipt.add("deployed", f"in {seconds:.2f} s from click to first 200")
    return f"first 200 after {seconds:.2f} s"


def _used(site: Site, publisher: Person, slug: str) -> str:
    first = int(journey.visit(site, slug, "/cgi-bin/visits").text)
    for path in ("/", "/style.css", "/visits.js"):
        check(journey.visit(site, slug, path).status_code == 200, f"{path} does not answer 200.")
    second = int(journey.visit(site, slug, "/cgi-bin/visits").text)
    check(second == first + 1, f"The visitor counter went from {first} to {second}.")

    def all_five() -> bool:
        priced = {row["meter"]: Decimal(row["usd"]) for row in journey.usage(publisher, slug)["meters"]}
        return all(priced.get(meter, 0) > 0 for meter in METERS)  # a few kilobytes stored cost nothing for some seconds

    until("All five meters above zero, and priced", all_five, seconds=120)
    return ""


def _charged(publisher: Person, owner: Person, slug: str, receipt: Receipt) -> str:
    """Delete the app, wait until nothing moves any more, and compare both sides to the last base unit."""
    delete(publisher, slug)
    used = settled_use(publisher, slug)
    for row in used["meters"]:
        receipt.add(row["meter"], f"{int(row['quantity']):>15,} {UNITS[row['meter']]:<13} {row['usd']:>15} USD")
        check(int(row["quantity"]) > 0 and Decimal(row["usd"]) > 0, f"{row['meter']} is zero: {row}")
    total, to_owner, commission = (Decimal(used[name]) for name in ("total_ntc", "owner_ntc", "commission_ntc"))
    check(total == to_owner + commission, f"{total} charged is not {to_owner} + {commission}.")
    check(abs(commission * 10 - to_owner) <= 10 * SMALLEST, f"{commission} is not a tenth of {to_owner}.")
    check(journey.earned(owner) == to_owner, f"The owner has {journey.earned(owner)}, was to earn {to_owner}.")
    entries = publisher.api("GET", "ledger?account=available")["entries"]
    check(
        sum(Decimal(row["ntc"]) for row in entries) == journey.available(publisher), "The statement is not the balance."
    )
    receipt.add("charged", f"{total} NTC")
    receipt.add("earned", f"{to_owner} NTC")
    receipt.add("commission", f"{commission} NTC")
    return f"{total} NTC"


UNITS = {
    "transfer": "bytes",
    "storage": "byte-seconds",
    "compute": "instructions",
    "uptime": "ms",
    "active_user": "user-months",
}


def delete(publisher: Person, slug: str, *, seconds: float = 60) -> None:
    """Delete an app and wait for the device's signed wipe receipt. (A merely stopped app goes on paying for its data.)"""
    publisher.api("DELETE", f"apps/{slug}/deployment")

    def wiped() -> bool:
        found = publisher.api("GET", f"apps/{slug}/deployment")
        return found["state"] == "deleted" and bool(found["wipe_receipts"])

    until("The app deleted, with a wipe receipt", wiped, seconds=seconds)


def settled_use(publisher: Person, slug: str) -> dict[str, Any]:
    """Return the usage of a deleted app once its last charge is made: it has not moved for some charging intervals."""
    seen: list[Any] = []

    def ask() -> dict[str, Any] | None:
        used = journey.usage(publisher, slug)
        seen.append((used["total_ntc"], used["meters"]))
        return used if len(seen) > 5 and all(row == seen[-1] for row in seen[-5:]) else None

    return until("The last charge", ask, seconds=90, every=2)


def link_wallet(owner: Person, account: Any) -> None:
    """Prove to hold an address by signing the portal's challenge."""
    message = owner.api("GET", f"wallet/challenge?address={account.address}")["message"]
    signature = account.sign_message(encode_defunct(text=message)).signature.hex()
    owner.api("POST", "wallet", {"message": message, "signature": f"0x{signature.removeprefix('0x')}"})


def _settled(owner: Person, receipt: Receipt) -> str:
    """Wait for the epoch in which everything earned is settled, and see it on the public page."""

    until_claimable(owner, seconds=120)
    epochs = owner.api("GET", "epochs")["epochs"]
    epoch = next(row for row in epochs if Decimal(row["earned"]) > 0)
    check(epoch["transaction"].startswith("0x") and epoch["gas_used"] > 0, f"The epoch has no transaction: {epoch}")
    check(epoch["statements"] >= 0 and epoch["payout_root"].startswith("0x"), f"The epoch has no roots: {epoch}")
    page = owner.open(f"/settlements/{epoch['number']}/")
    check(epoch["transaction"] in page.html, "The settlement's page does not show its transaction.")
    receipt.add("settled", f"epoch {epoch['number']}: {epoch['earned']} NTC to {epoch['accounts']} account")
    receipt.add("settlement", epoch["transaction"])
    receipt.add("gas", f"{epoch['gas_used']:,}")
    return f"gas {epoch['gas_used']:,}"


def until_claimable(owner: Person, *, seconds: float) -> None:
    """Wait until everything the owner ever earned is settled and can be claimed."""

    def claimable() -> bool:
        found = Decimal(owner.api("GET", "wallet")[0]["claimable"])
        return found > 0 and found == journey.earned(owner)

    until("Everything earned is settled and claimable", claimable, seconds=seconds, every=1)


def _claimed(site: Site, owner: Person, address: str, receipt: Receipt) -> str:
    """Claim, and ask the token contract itself what the wallet has."""
    wanted = journey.earned(owner)
    wallet = owner.api("GET", "wallet")[0]
    claim = owner.api("POST", "claims", {"wallet": wallet["id"]})
    done = until("The claim", lambda: final_claim(owner, claim["id"]), seconds=60)
    on_chain = token_balance(site, address)
    check(on_chain == wanted, f"The wallet holds {on_chain} NTC on Ethereum, {wanted} was claimed.")
    receipt.add("claimed", f"{on_chain} NTC at {address}")
    receipt.add("claim", done["transaction"])
    return f"{on_chain} NTC on Ethereum"


def final_claim(owner: Person, claim: int) -> Any:
    """Return the claim once it is paid; nothing before.

    Raises:
        Wrong: it failed.
    """
    found = owner.api("GET", f"claims/{claim}")
    check(found["state"] != "failed", f"The claim failed: {found['error']}")
    return found if found["state"] in ("final", "paid") else None


def token_balance(site: Site, address: str) -> Decimal:
    """Return `balanceOf(address)` of the Intercoin contract, in NTC."""
    deployed = json.loads((site.data / "deployments.json").read_text())
    data = "0x70a08231" + address.removeprefix("0x").lower().rjust(64, "0")
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "eth_call",
        "params": [{"to": deployed["intercoin"], "data": data}, "latest"],
    }
    return int(httpx.post(site.values["ETHEREUM_RPC_URL"], json=call).json()["result"], 16) * SMALLEST
