"""What can go wrong on a device, each with whether trying again may help."""

from __future__ import annotations

from nodes.agent.protocol import Reason


def plainly(error: BaseException) -> str:
    """Return what the system says of an error without its number: "Connection refused", not "[Errno 111] Connection refused"."""
    words = getattr(error, "strerror", None)
    return str(words or error or type(error).__name__)


class AgentError(Exception):
    """Base of every error the agent raises itself.

    Attributes:
        permanent: false when the same call may succeed later.
        retry_after: seconds the portal asked to wait before that; 0: it did not say.
    """

    permanent = True
    retry_after = 0.0


class SetupError(AgentError):
    """The device or its folder is not ready; the text says what to do."""


class PortalUnreachable(AgentError):
    """No usable answer: no network, a time-out, or a 5xx. The app goes on; the agent tries again."""

    permanent = False


class PortalRefused(AgentError):
    """The portal answered 4xx.

    Attributes:
        status: HTTP status.
        code: the portal's stable name for the reason, e.g. `token_used`.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        # 401 may be a clock that was corrected meanwhile, 408, 425 and 429 ask for patience.
        self.permanent = status not in (401, 408, 425, 429)


class ArchiveUnsound(AgentError):
    """An image archive is not one sound image; the text says what is wrong and what its publisher can do."""


class LeaseError(AgentError):
    """One lease cannot run; the others are not touched.

    Attributes:
        reason: in a word a program can use; the text says it to a person.
        permanent: true when only a change of the workload helps.
    """

    def __init__(self, reason: Reason, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.reason, self.permanent = reason, permanent


class Cancelled(AgentError):
    """The portal changed its mind while a step was under way."""
