"""Operations as values: one builder for each kind of docs/protocol.md P22 to P28 and P46 to P68.

A builder returns the JSON form that `cityid._native.build_transaction` encodes, with bytes in lower-case hexadecimal.
It checks nothing that the ledger checks: the rule lives in one place. What a builder does not know is whether the
network will accept the operation; `Client.transact` says so.

    organisations   what a city does: admit, terms, districts
    ranges          allocate, reserve, seal, status
    items           categories, items, overrides, aliases
    profiles        keys, controllers, recovery, transfers
    governance      proposals, votes, and the changes that they are about
"""

from cityid.client.operations.governance import (
    Change,
    admit_city,
    merge_city,
    propose,
    remove_city,
    replace_keys,
    schedule_protocol,
    set_city_status,
    set_committee,
    set_parameters,
    vote,
    withdraw_proposal,
)
from cityid.client.operations.items import (
    ItemColumns,
    override_item,
    register_aliases,
    register_category,
    register_items,
    set_status,
    update_items,
)
from cityid.client.operations.organisations import admit_organisation, map_district, set_terms
from cityid.client.operations.profiles import (
    accept_transfer,
    end_recovery,
    offer_transfer,
    rotate_keys,
    set_controllers,
    start_recovery,
    update_profile,
)
from cityid.client.operations.ranges import allocate_range, reserve_range, seal_range, set_range_status
from cityid.client.operations.values import (
    Item,
    ItemUpdate,
    KeyEntry,
    Operation,
    Range,
    Services,
    Status,
    because,
    digest_of_document,
    prove_possession,
    to_json,
)

__all__ = [
    "Change",
    "Item",
    "ItemColumns",
    "ItemUpdate",
    "KeyEntry",
    "Operation",
    "Range",
    "Services",
    "Status",
    "accept_transfer",
    "admit_city",
    "admit_organisation",
    "allocate_range",
    "because",
    "digest_of_document",
    "end_recovery",
    "map_district",
    "merge_city",
    "offer_transfer",
    "override_item",
    "propose",
    "prove_possession",
    "register_aliases",
    "register_category",
    "register_items",
    "remove_city",
    "replace_keys",
    "reserve_range",
    "rotate_keys",
    "schedule_protocol",
    "seal_range",
    "set_city_status",
    "set_committee",
    "set_controllers",
    "set_parameters",
    "set_range_status",
    "set_status",
    "set_terms",
    "start_recovery",
    "to_json",
    "update_items",
    "update_profile",
    "vote",
    "withdraw_proposal",
]
