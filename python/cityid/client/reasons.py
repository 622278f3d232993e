"""What the reason of a rejected transaction means, and what to do about it.

A receipt holds a reason code and no words: it is hashed, and words are not. Here the words stand, one sentence of what
is so and one of what comes next for every reason that execution gives (docs/protocol.md says which rule gives it).
"""

from collections.abc import Mapping
from typing import Final

__all__ = ["REASONS", "explain"]

REASONS: Final[Mapping[str, str]] = {
    "bad_certificate": "a TLS certificate does not fit the key beside it. Next: make it anew from the TLS key.",
    "bad_key": "a key can never count: it is malformed, weak, or ends before it begins. Next: make a new key.",
    "bad_name": "a name or alias is refused: empty, too long, or with characters that names may not have.",
    "bad_parameter": "a parameter has no such value, or does not fit the others. Next: see `gov show` for what holds.",
    "bad_proof": "the proof of the item's place in its table does not fit the sealed table. Next: take a new proof.",
    "bad_purpose": "a key of this purpose has no place in that record. Next: name a purpose that the subject may have.",
    "bad_receipt": "a storage receipt does not count: another range version, another table, or no member's signature. "
    "Next: ask for receipts again.",
    "bad_service": "a service has a type or address that is refused. Next: use https, or what the type asks for.",
    "bad_signature": "a signature or a proof of possession does not verify. Next: sign with the key that is named.",
    "bad_table": "the table does not succeed the one before it, which had more items. Next: build it from that one.",
    "bad_transition": "the status cannot change that way from what it is now. Next: look at the record.",
    "closed": "the proposal was enacted, withdrawn or has ended. Next: propose it again if it is still wanted.",
    "committee_too_small": "the committee would have fewer cities than tolerate one faulty one.",
    "exhausted": "the class has no free range of this size left in this city. Next: use another class or size.",
    "exists": "it is there already, and codes, aliases and reservations are given once.",
    "expired": "it was not in a block before the height until which it is valid. Next: sign it again.",
    "expired_proposal": "the time to vote on the proposal is over. Next: propose it again.",
    "in_committee": "the city votes on blocks. Next: change the committee first.",
    "key_in_use": "the key is registered for a subject already; a key belongs to one. Next: make a new key.",
    "merged": "the city was merged into another. Next: name that one.",
    "no_category": "the category of the items is not registered. Next: register it first.",
    "no_key_left": "nobody could sign for the subject any more, or a key that it cannot be without would be missing. "
    "Next: add the new keys before, or with, taking the old ones away, and keep the threshold within them.",
    "no_quorum_left": "fewer cities would be active than it takes to decide anything.",
    "no_recovery": "no recovery is under way.",
    "not_authorised": "the keys that signed may not do this: another holder, another city, too few controllers, or a "
    "key outside its validity.",
    "not_in_range": "nobody holds that range, or not the one who signed. Next: allocate or reserve it first.",
    "not_offered": "the item or range is not offered to the one who accepts. Next: its holder offers it first.",
    "not_sealed": "the item is in no sealed range. Next: register or update it as a single item.",
    "over_quota": "the organisation would hold more serials of the class than its quota. Next: ask its city for more.",
    "rate_exceeded": "the subject has done as much in this block as its rate allows. Next: send it again later.",
    "recovery_pending": "a recovery of the subject is under way. Next: end or cancel it first.",
    "retired": "it is retired, and what is retired never changes again.",
    "sealed": "the range is sealed, and its table may hold the item. Next: override the item with its table proof.",
    "stale_version": "the record has another version than the one named. Next: read it again and decide anew.",
    "suspended": "something on the way to it is suspended: the city, the organisation, the category, the range or the "
    "item. Next: look which one.",
    "too_early": "the time or height for it has not come.",
    "too_far": "it names a height that is too far ahead. Next: choose an earlier one.",
    "too_few_receipts": "fewer cities keep the table than the network demands. Next: ask for receipts.",
    "too_large": "it would be larger than a limit of the network. Next: use fewer entries, or several transactions.",
    "unchanged": "nothing would change.",
    "unknown_city": "that is no member city. Next: check the six digits.",
    "unknown_code": "the code is not registered here, or is of a kind that this cannot be done to.",
    "unknown_key": "the subject does not hold that key. Next: look at its profile.",
    "unknown_proposal": "there is no proposal of that number. Next: `gov show` lists them.",
}


def explain(reason: str) -> str:
    """The words for a reason; general ones for a reason that this software does not know."""
    return REASONS.get(reason, "the network does not accept the transaction.")
