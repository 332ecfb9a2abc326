"""The refusals that decisions give, in words for the caller; pure."""

from gateway.contract import Decision
from gateway.domain import Approval, GatewayError, Outcome, Refusal
from gateway.ports import Approvals


def refusal_of(decision: Decision) -> Refusal:
    """Return the refusal that a denial is: its reasons' sentences under the first one's code."""
    reasons = decision.answer.deny
    sentence = " ".join(reason.message for reason in reasons)
    return Refusal(reasons[0].code, sentence, status=decision.answer.status)


def is_verdict(error: GatewayError) -> bool:
    """Return whether an error is about the answer itself: sent again it would be no other."""
    return isinstance(error, Refusal) or error.code.startswith("masking_")


def unchanged(first: Decision, later: Decision) -> Decision:
    """Return the later decision of a wait.

    Raises:
        Refusal: it changes what was promised when the wait began.
    """
    if later.outcome is Outcome.ALLOW and (
        first.answer.recording != later.answer.recording
        or first.answer.masking != later.answer.masking
        or first.answer.endpoint != later.answer.endpoint
    ):
        raise policy_changed(first)
    return later


def policy_changed(first: Decision) -> Refusal:
    """Return the refusal of a call that was to be carried out as a decision said."""
    sentence = "The policy changed while you waited; send again."
    return Refusal("policy.changed", sentence, status=first.answer.status)


def still_waiting(approvals: Approvals, approval: Approval, status: int) -> Refusal:
    """Return the refusal at the end of a wait: where the approval is and what it will cover."""
    where = f" at {approvals.url_of(approval.id)}" if approval.id else ""
    return Refusal(
        "approval.pending",
        f"This call waits for approval {approval.id}{where}. Once granted it covers "
        f"{_COVERED[approval.scope]}: send it again then.",
        status=status,
    )


_COVERED = {
    "request": "this very request, unchanged",
    "session": "all that you ask about the same in this session",
    "principal": "all that you ask about the same in this workflow",
}


def ended(approval: Approval, status: int) -> Refusal:
    """Return the refusal of a call whose approval ended while it waited."""
    sentence = f"Approval {approval.id} is {approval.state}. Send it again to ask anew."
    return Refusal("approval.ended", sentence, status=status)
