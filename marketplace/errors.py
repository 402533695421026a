"""What marketplace refuses, in words that say what to do next."""

from __future__ import annotations

from interchain_site.core.errors import Conflict, DomainError, Invalid, NotAllowed, NotFound


class NotYours(NotFound):
    """The app belongs to somebody else; a stranger is not even told that it exists."""

    message = "There is no app of yours by that name."


class StaffOnly(NotAllowed):
    message = "Only staff may change price lists."


class BadRelease(Invalid):
    message = "This release cannot be accepted. Mend the marked fields and send it again."


class NoRelease(Conflict):
    code = "no_release"
    message = "This app has no release yet. Add one, then deploy."


class NotDeployed(Conflict):
    code = "not_deployed"
    message = "This app is not deployed. Deploy it first."


class NothingBefore(Conflict):
    code = "nothing_before"
    message = "No release ran before this one, so there is nothing to go back to. Deploy the release you want."


class AlreadyDeployed(Conflict):
    code = "already_deployed"
    message = "This app is deployed already. Start it, redeploy a release, or delete the deployment first."


class WrongState(Conflict):
    code = "wrong_state"
    message = "The app is in a state in which this cannot be done."


class TooMuchToBill(DomainError):
    """What a lease is said to have used costs more than any ledger entry can hold; it is not charged at all."""

    code = "too_much_to_bill"
    message = (
        "Its use cannot be charged: what its device reports costs more than any bill can hold, so the numbers must be "
        "wrong. Nothing of it was charged, and staff look into it. Start the app again to go on with a fresh meter."
    )


class NotEnoughNTC(DomainError):
    code, status = "not_enough_ntc", 402
    message = "Your balance does not cover one hour of what this app is expected to use."


class NoPriceList(DomainError):
    code, status, permanent = "no_price_list", 503, False
    message = "No price list is in force for this region. Staff publish one in the admin; try again after that."


class Frozen(Conflict):
    code = "frozen"
    message = "A published price list is frozen. Draft a new version instead."
